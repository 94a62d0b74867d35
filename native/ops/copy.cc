#include "ops/copy.h"

#include "core/autograd.h"
#include "core/device.h"
#include "core/gradient-ops.h"
#include "core/stream.h"

namespace lorikeet {
namespace {

/// Strides of x seen with a broadcast shape: zero where it is repeated.
Shape broadcast_strides(const Tensor& x, const Shape& shape) {
  Shape strides(shape.rank());
  int lead = shape.rank() - x.rank();
  for (int i = 0; i < x.rank(); ++i) strides[lead + i] = x.shape()[i] == 1 ? 0 : x.strides()[i];
  return strides;
}

CopyArgs layout(const Tensor& target, const Tensor& source) {
  CopyArgs args{};
  args.from_dtype = source.dtype();
  args.to_dtype = target.dtype();
  Shape from = broadcast_strides(source, target.shape());
  // Neighbouring dimensions that are one run in both operands are merged, so that inner loops are long.
  int rank = 0;
  for (int i = 0; i < target.rank(); ++i) {
    int64_t size = target.shape()[i];
    if (size == 1) continue;
    int64_t f = from[i], t = target.strides()[i];
    if (rank > 0 && args.from_strides[rank - 1] == f * size && args.to_strides[rank - 1] == t * size) {
      args.sizes[rank - 1] *= size;
      args.from_strides[rank - 1] = f;
      args.to_strides[rank - 1] = t;
      continue;
    }
    args.sizes[rank] = size;
    args.from_strides[rank] = f;
    args.to_strides[rank] = t;
    ++rank;
  }
  args.rank = rank;
  return args;
}

void enqueue_copy(const char* name, const Tensor& target, const Tensor& source) {
  CopyArgs args = layout(target, source);
  enqueue(name, {source}, {target}, [target = target.detach(), source = source.detach(), args]() mutable {
    args.from = source.raw();
    args.to = target.raw();
    copy_kernel(args);
  });
}

Tensor copied(const char* name, const Tensor& x, DType dtype) {
  Tensor y = empty(x.shape(), dtype, x.device());
  enqueue_copy(name, y, x);
  if (is_float(dtype) && needs_record({&x})) {
    // The engine casts the gradient back to the input's dtype.
    record(name, {x}, {y}, [](const Tensors& dy, const Wanted&) { return Tensors{dy[0]}; });
  }
  return y;
}

}  // namespace

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : copied("contiguous", x, x.dtype()); }

Tensor clone(const Tensor& x) { return copied("clone", x, x.dtype()); }

Tensor cast(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : copied("cast", x, dtype); }

void copy_into(const Tensor& target, const Tensor& source) {
  check_shape(broadcast_shapes("copyInto", target.shape(), source.shape()) == target.shape(), "copyInto: the source does not fit; got ",
              to_string(source.shape()), ", expected something that broadcasts to ", to_string(target.shape()));
  mark_changed("copyInto", target);
  enqueue_copy("copyInto", target, source);
}

void fill(const Tensor& target, double value) { copy_into(target, filled(Shape{}, DType::f64, target.device(), value)); }

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  cuda_backend();
  Tensor from = contiguous(x).detach();
  Tensor to = empty(x.shape(), x.dtype(), device);
  enqueue_on_device("toDevice", {from}, {to}, [from, to] {
    const CudaBackend& cuda = cuda_backend();
    int64_t bytes = from.numel() * size_of(from.dtype());
    const char* problem =
        to.device() == Device::cuda ? cuda.copy_to_device(to.raw(), from.raw(), bytes) : cuda.copy_to_host(to.raw(), from.raw(), bytes);
    check(problem == nullptr, ErrorCode::device, "toDevice: ", problem != nullptr ? problem : "");
  });
  return to;
}

}  // namespace lorikeet
