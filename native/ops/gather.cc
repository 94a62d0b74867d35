#include "ops/gather.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

/// The sizes of x around `dim`.
GatherArgs extents(const Tensor& x, int dim, int64_t count) {
  GatherArgs args{x.dtype(), nullptr, nullptr, nullptr, nullptr, 1, x.size(dim), count, 1};
  for (int i = 0; i < dim; ++i) args.outer *= x.size(i);
  for (int i = dim + 1; i < x.rank(); ++i) args.inner *= x.size(i);
  return args;
}

void check_inputs(const char* op, const Tensor& x, int dim, const Tensor& index) {
  check_argument(index.dtype() == DType::i64 || index.dtype() == DType::i32, op, ": indices must be i64 or i32; got ",
                 name_of(index.dtype()));
  bool fits = index.rank() == x.rank();
  for (int i = 0; fits && i < x.rank(); ++i) fits = i == dim || index.size(i) == x.size(i);
  check_shape(fits, op, ": the index does not fit; got x ", to_string(x.shape()), " and index ", to_string(index.shape()),
              ", expected equal sizes but in dimension ", dim);
  check(x.device() == Device::cpu && index.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
}

void check_range(const char* op, const Tensor& index, int64_t size) {
  const int64_t* values = index.data<int64_t>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    check_argument(values[i] >= 0 && values[i] < size, op, ": index ", values[i], " at position ", i,
                   " is outside the dimension; expected 0 to ", size - 1);
  }
}

/// Zeros of `shape` with dy added at the indices: the gradient of a gather.
Tensor spread(const GatherArgs& extents, const Shape& shape, const Tensor& index, const Tensor& dy) {
  Tensor dx = empty(shape, dy.dtype());
  enqueue("gather backward", {index, dy}, {dx}, [=, args = extents]() mutable {
    args.index = index.data<int64_t>();
    args.source = dy.raw();
    args.out = dx.raw();
    scatter_add_kernel(args);
  });
  return dx;
}

}  // namespace

Tensor gather(const Tensor& input, int64_t dim, const Tensor& input_index) {
  int axis = normalize_dim("gather", dim, input.rank());
  check_inputs("gather", input, axis, input_index);
  Tensor x = contiguous(input), index = cast(contiguous(input_index.detach()), DType::i64);
  GatherArgs args = extents(x, axis, index.size(axis));
  Tensor y = empty(index.shape(), x.dtype());
  enqueue("gather", {x, index}, {y}, [=, x = x.detach(), y = y.detach()]() mutable {
    check_range("gather", index, args.size);
    args.x = x.raw();
    args.index = index.data<int64_t>();
    args.out = y.raw();
    gather_kernel(args);
  });
  if (is_float(x.dtype()) && needs_record({&x})) {
    record("gather", {x}, {y},
           [=, shape = x.shape()](const Tensors& dy, const Wanted&) -> Tensors { return {spread(args, shape, index, contiguous(dy[0]))}; });
  }
  return y;
}

Tensor scatter_add(const Tensor& input, int64_t dim, const Tensor& input_index, const Tensor& input_source) {
  int axis = normalize_dim("scatterAdd", dim, input.rank());
  check_inputs("scatterAdd", input, axis, input_index);
  check_shape(input_source.shape() == input_index.shape(), "scatterAdd: the source does not fit; got index ",
              to_string(input_index.shape()), " and source ", to_string(input_source.shape()), ", expected one shape");
  check_argument(is_float(input.dtype()) && input.dtype() == input_source.dtype(), "scatterAdd: needs floating tensors of one dtype; got ",
                 name_of(input.dtype()), " and ", name_of(input_source.dtype()));
  Tensor x = contiguous(input), source = contiguous(input_source), index = cast(contiguous(input_index.detach()), DType::i64);
  GatherArgs args = extents(x, axis, index.size(axis));
  Tensor y = empty_like(x);
  enqueue("scatterAdd", {x, index, source}, {y}, [=, x = x.detach(), source = source.detach(), y = y.detach()]() mutable {
    check_range("scatterAdd", index, args.size);
    args.x = x.raw();
    args.index = index.data<int64_t>();
    args.source = source.raw();
    args.out = y.raw();
    scatter_add_kernel(args);
  });
  if (needs_record({&x, &source})) {
    record("scatterAdd", {x, source}, {y}, [=](const Tensors& dy, const Wanted& wanted) -> Tensors {
      return {dy[0], wanted[1] ? gather(dy[0], axis, index) : Tensor()};
    });
  }
  return y;
}

}  // namespace lorikeet
