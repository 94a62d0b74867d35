#include "ops/softmax.h"

#include <vector>

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/shape.h"

namespace lorikeet {
namespace {

constexpr const char* kNames[] = {"softmax", "logSoftmax", "logSumExp"};

const char* name_of(SoftmaxOp op) { return kNames[static_cast<int>(op)]; }

/// One of the three over the last dimension, which stays (as 1 for log_sum_exp).
Tensor over_rows(SoftmaxOp op, const Tensor& input) {
  const char* name = name_of(op);
  Tensor x = contiguous(input);
  bool sums = op == SoftmaxOp::log_sum_exp;
  Shape shape = x.shape();
  if (sums) shape[x.rank() - 1] = 1;
  Tensor y = empty(shape, x.dtype());
  int64_t columns = x.size(-1), rows = sums ? shape.numel() : (columns == 0 ? 0 : x.numel() / columns);
  SoftmaxArgs args{op, x.dtype(), nullptr, nullptr, nullptr, nullptr, rows, columns};
  enqueue(name, {x}, {y}, [args, x = x.detach(), y = y.detach()]() mutable {
    args.x = x.raw();
    args.out = y.raw();
    softmax_fwd_kernel(args);
  });
  if (needs_record({&x})) {
    Saved saved_x(sums ? x : Tensor()), saved_y(y);
    record(name, {x}, {y}, [=, shape = x.shape()](const Tensors& gradients, const Wanted&) -> Tensors {
      Tensor x = saved_x.get(name), y = saved_y.get(name), dy = contiguous(gradients[0]);
      Tensor dx = empty(shape, args.dtype);
      enqueue("softmax backward", {x, y, dy}, {dx}, [=]() mutable {
        args.x = x.defined() ? x.raw() : nullptr;
        args.y = y.raw();
        args.dy = dy.raw();
        args.out = dx.raw();
        softmax_bwd_kernel(args);
      });
      return {dx};
    });
  }
  return y;
}

Tensor over_dim(SoftmaxOp op, const Tensor& x, int64_t wanted_dim) {
  const char* name = name_of(op);
  check_argument(is_float(x.dtype()), name, ": needs a floating tensor; got ", lorikeet::name_of(x.dtype()), ", cast it first");
  check_shape(x.rank() >= 1, name, ": needs at least one dimension; got a scalar");
  check(x.device() == Device::cpu, ErrorCode::device, name, ": no cuda kernel in this build");
  int dim = normalize_dim(name, wanted_dim, x.rank());
  if (dim == x.rank() - 1) return over_rows(op, x);
  std::vector<int64_t> swap;
  for (int i = 0; i < x.rank(); ++i) swap.push_back(i);
  std::swap(swap[dim], swap[x.rank() - 1]);
  return permute(over_rows(op, permute(x, swap)), swap);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return over_dim(SoftmaxOp::softmax, x, dim); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return over_dim(SoftmaxOp::log_softmax, x, dim); }

Tensor log_sum_exp(const Tensor& x, int64_t dim, bool keep_dim) {
  Tensor y = over_dim(SoftmaxOp::log_sum_exp, x, dim);
  if (keep_dim) return y;
  Shape shape = y.shape();
  shape.erase(normalize_dim("logSumExp", dim, x.rank()));
  return reshape(y, shape);
}

}  // namespace lorikeet
