#include "ops/reduce.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/shape.h"

namespace lorikeet {
namespace {

bool is_sum(ReduceOp op) { return op == ReduceOp::sum || op == ReduceOp::mean; }
bool is_index(ReduceOp op) { return op == ReduceOp::argmax || op == ReduceOp::argmin; }

DType result_dtype(ReduceOp op, const Tensor& x) {
  if (is_index(op)) return DType::i64;
  return x.dtype() == DType::bool_ || x.dtype() == DType::u8 ? DType::i64 : x.dtype();
}

void check_dtype(ReduceOp op, const Tensor& x) {
  const char* name = kReduceNames[static_cast<int>(op)];
  bool bytes = x.dtype() == DType::bool_ || x.dtype() == DType::u8;
  check_argument(!bytes || op == ReduceOp::sum, name, ": not defined for ", name_of(x.dtype()), ", cast it first");
  check_argument(op != ReduceOp::mean || is_float(x.dtype()), name, ": needs a floating tensor; got ", name_of(x.dtype()),
                 ", cast it first");
}

/// Gradient of y (with reduced dimensions kept as 1) spread over x.
Tensor spread(ReduceOp op, const Tensor& dy, const Tensor& x, const Tensor& y, const Shape& shape, int64_t reduced) {
  if (op == ReduceOp::sum) return expand(dy, shape);
  if (op == ReduceOp::mean) return expand(unary(UnaryOp::affine_op, dy, 1.0 / static_cast<double>(reduced), 0), shape);
  Tensor chosen = cast(compare(CompareOp::equal_op, x, y), x.dtype());
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank(); ++i) {
    if (y.shape()[i] != shape[i]) dims.push_back(i);
  }
  Tensor share = dims.empty() ? dy : binary(BinaryOp::div_op, dy, reduce(ReduceOp::sum, chosen, dims, true));
  return binary(BinaryOp::mul_op, chosen, share);
}

}  // namespace

Tensor reduce(ReduceOp op, const Tensor& x, const std::vector<int64_t>& dims, bool keep_dim) {
  const char* name = kReduceNames[static_cast<int>(op)];
  check_dtype(op, x);
  bool reduces[kMaxRank] = {};
  for (int64_t dim : dims) reduces[normalize_dim(name, dim, x.rank())] = true;
  for (int i = 0; dims.empty() && i < x.rank(); ++i) reduces[i] = true;
  check_argument(!is_index(op) || dims.size() <= 1, name, ": takes one dimension or none; got ", dims.size());

  // Bring the reduced dimensions together, at the place of the first one, so that the tensor reads [outer, reduced, inner].
  Shape kept(x.rank()), result;
  std::vector<int64_t> order, reduced_order;
  int64_t outer = 1, reduced = 1, inner = 1;
  for (int i = 0; i < x.rank(); ++i) {
    kept[i] = reduces[i] ? 1 : x.size(i);
    if (reduces[i]) {
      reduced_order.push_back(i);
      reduced *= x.size(i);
    } else {
      result.push_back(x.size(i));
    }
  }
  int first = reduced_order.empty() ? x.rank() : static_cast<int>(reduced_order[0]);
  for (int i = 0; i < first; ++i) {
    order.push_back(i);
    outer *= x.size(i);
  }
  order.insert(order.end(), reduced_order.begin(), reduced_order.end());
  for (int i = first; i < x.rank(); ++i) {
    if (reduces[i]) continue;
    order.push_back(i);
    inner *= x.size(i);
  }
  check_shape(reduced > 0 || is_sum(op), name, ": nothing to reduce; got ", to_string(x.shape()));

  Tensor packed;
  {
    NoGrad no_grad;
    packed = contiguous(permute(x.detach(), order));
  }
  Tensor y = empty(keep_dim ? kept : result, result_dtype(op, x), x.device());
  enqueue(name, {packed}, {y}, [=, dtype = x.dtype()] { reduce_kernel({op, dtype, packed.raw(), y.raw(), outer, reduced, inner}); });
  Tensor out = y.detach();
  if (is_float(out.dtype()) && needs_record({&x})) {
    Saved saved_x(is_sum(op) ? Tensor() : x), saved_y(is_sum(op) ? Tensor() : y);
    record(name, {x}, {out}, [=, shape = x.shape()](const Tensors& dy, const Wanted&) -> Tensors {
      Tensor y_kept = is_sum(op) ? Tensor() : reshape(saved_y.get(name), kept);
      return {spread(op, reshape(dy[0], kept), saved_x.get(name), y_kept, shape, reduced)};
    });
  }
  return out;
}

}  // namespace lorikeet
