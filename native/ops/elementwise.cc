#include "ops/elementwise.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

enum class Saves { input, output, nothing };

#define LORIKEET_SAVES_ROW(name, saves) Saves::saves,
constexpr Saves kUnarySaves[] = {LORIKEET_UNARY_OPS(LORIKEET_SAVES_ROW)};
#undef LORIKEET_SAVES_ROW

void check_float(const char* op, const Tensor& x) {
  check_argument(is_float(x.dtype()), op, ": needs a floating tensor; got ", name_of(x.dtype()), ", cast it first");
}

void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check_argument(a.dtype() == b.dtype(), op, ": operands have different dtypes; got ", name_of(a.dtype()), " and ", name_of(b.dtype()),
                 ", cast one of them");
  check(a.device() == b.device(), ErrorCode::device, op, ": operands are on different devices; got ", name_of(a.device()), " and ",
        name_of(b.device()));
}

/// The loop nest over `shape` for operands that broadcast to it. Runs of dimensions that every operand walks evenly are merged.
BroadcastArgs grid(const Shape& shape, std::initializer_list<const Tensor*> operands) {
  struct Dim {
    int64_t size;
    int64_t strides[3];
  };
  Dim dims[kMaxRank + 1];
  int rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == 1) continue;
    Dim dim{shape[i], {0, 0, 0}};
    int k = 0;
    for (const Tensor* x : operands) {
      int j = i - (shape.rank() - x->rank());
      dim.strides[k++] = j < 0 || x->shape()[j] == 1 ? 0 : x->strides()[j];
    }
    bool merges = rank > 0;
    for (int o = 0; o < k && merges; ++o) merges = dims[rank - 1].strides[o] == dim.strides[o] * dim.size;
    if (merges) {
      dims[rank - 1].size *= dim.size;
      for (int o = 0; o < k; ++o) dims[rank - 1].strides[o] = dim.strides[o];
    } else {
      dims[rank++] = dim;
    }
  }
  // One long run is cut into rows, so that it can be spread over threads.
  constexpr int64_t kRow = 16384;
  if (rank == 1 && dims[0].size > kRow && dims[0].size % kRow == 0) {
    dims[1] = dims[0];
    dims[1].size = kRow;
    dims[0].size /= kRow;
    for (int64_t& stride : dims[0].strides) stride *= kRow;
    rank = 2;
  }
  BroadcastArgs args{};
  args.rows = 1;
  args.columns = rank > 0 ? dims[rank - 1].size : 1;
  for (int o = 0; o < 3 && rank > 0; ++o) args.column_strides[o] = dims[rank - 1].strides[o];
  args.outer_rank = rank > 0 ? rank - 1 : 0;
  for (int d = 0; d < args.outer_rank; ++d) {
    args.outer_sizes[d] = dims[d].size;
    args.rows *= dims[d].size;
    for (int o = 0; o < 3; ++o) args.outer_strides[o][d] = dims[d].strides[o];
  }
  return args;
}

Tensor scaled(const Tensor& x, double factor) { return unary(UnaryOp::affine_op, x, factor, 0); }

/// Gradients of a ∘ b; the engine sums them down to the operands' shapes.
Tensors binary_gradients(BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& dy, const Wanted& wanted) {
  Tensors gradients(2);
  auto mul = [](const Tensor& x, const Tensor& y) { return binary(BinaryOp::mul_op, x, y); };
  switch (op) {
    case BinaryOp::add_op: return {dy, dy};
    case BinaryOp::sub_op:
      if (wanted[1]) gradients[1] = scaled(dy, -1);
      gradients[0] = dy;
      return gradients;
    case BinaryOp::mul_op:
      if (wanted[0]) gradients[0] = mul(dy, b);
      if (wanted[1]) gradients[1] = mul(dy, a);
      return gradients;
    case BinaryOp::div_op: {
      Tensor da = binary(BinaryOp::div_op, dy, b);
      if (wanted[1]) gradients[1] = scaled(mul(da, binary(BinaryOp::div_op, a, b)), -1);
      gradients[0] = da;
      return gradients;
    }
    default: {
      // maximum and minimum: the chosen operand gets the gradient, a tie goes to a.
      Tensor first = compare(op == BinaryOp::maximum_op ? CompareOp::greaterEqual_op : CompareOp::lessEqual_op, a, b);
      Tensor zero = empty(Shape{}, dy.dtype(), dy.device());
      fill(zero, 0);
      if (wanted[0]) gradients[0] = where(first, dy, zero);
      if (wanted[1]) gradients[1] = where(first, zero, dy);
      return gradients;
    }
  }
}

}  // namespace

Tensor unary(UnaryOp op, const Tensor& input, double p, double q) {
  const char* name = kUnaryNames[static_cast<int>(op)];
  check_float(name, input);
  Tensor x = contiguous(input);
  Tensor y = empty_like(x);
  enqueue_on_device(name, {x}, {y}, [=, x = x.detach(), y = y.detach()] {
    unary_fwd_kernel.on(x.device(), {op, x.dtype(), x.raw(), nullptr, y.raw(), x.numel(), p, q});
  });
  if (needs_record({&x})) {
    Saves saves = kUnarySaves[static_cast<int>(op)];
    Saved saved(saves == Saves::input ? x : saves == Saves::output ? y : Tensor());
    record(name, {x}, {y}, [=](const Tensors& gradients, const Wanted&) -> Tensors {
      if (saves == Saves::nothing) return {};
      Tensor v = saved.get(name), dy = contiguous(gradients[0]), dx = empty_like(v);
      enqueue_on_device(name, {v, dy}, {dx}, [=] {
        unary_bwd_kernel.on(v.device(), {op, v.dtype(), v.raw(), dy.raw(), dx.raw(), v.numel(), p, q});
      });
      return {dx};
    });
  }
  return y;
}

Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b) {
  const char* name = kBinaryNames[static_cast<int>(op)];
  check_same_dtype(name, a, b);
  check_argument(is_float(a.dtype()) || a.dtype() == DType::i64 || a.dtype() == DType::i32, name, ": needs numbers; got ",
                 name_of(a.dtype()), ", cast it first");
  Shape shape = broadcast_shapes(name, a.shape(), b.shape());
  Tensor y = empty(shape, a.dtype(), a.device());
  BroadcastArgs args = grid(shape, {&a, &b});
  args.op = static_cast<int>(op);
  args.dtype = a.dtype();
  enqueue(name, {a, b}, {y}, [=, a = a.detach(), b = b.detach(), y = y.detach()]() mutable {
    args.a = a.raw();
    args.b = b.raw();
    args.out = y.raw();
    binary_kernel(args);
  });
  if (needs_record({&a, &b})) {
    bool products = op == BinaryOp::mul_op || op == BinaryOp::div_op, choices = op == BinaryOp::maximum_op || op == BinaryOp::minimum_op;
    bool division = op == BinaryOp::div_op;
    Saved saved_a((products && requires_grad(b)) || choices ? a : Tensor());
    Saved saved_b((products && requires_grad(a)) || choices || division ? b : Tensor());
    record(name, {a, b}, {y}, [=](const Tensors& dy, const Wanted& wanted) {
      return binary_gradients(op, saved_a.get(name), saved_b.get(name), dy[0], wanted);
    });
  }
  return y;
}

Tensor compare(CompareOp op, const Tensor& a, const Tensor& b) {
  const char* name = kCompareNames[static_cast<int>(op)];
  check_same_dtype(name, a, b);
  Shape shape = broadcast_shapes(name, a.shape(), b.shape());
  Tensor y = empty(shape, DType::bool_, a.device());
  BroadcastArgs args = grid(shape, {&a, &b});
  args.op = static_cast<int>(op);
  args.dtype = a.dtype();
  enqueue(name, {a, b}, {y}, [=, a = a.detach(), b = b.detach()]() mutable {
    args.a = a.raw();
    args.b = b.raw();
    args.out = y.raw();
    compare_kernel(args);
  });
  return y;
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_argument(condition.dtype() == DType::bool_, "where: the condition must be bool; got ", name_of(condition.dtype()));
  check_same_dtype("where", a, b);
  Shape shape = broadcast_shapes("where", condition.shape(), broadcast_shapes("where", a.shape(), b.shape()));
  Tensor y = empty(shape, a.dtype(), a.device());
  BroadcastArgs args = grid(shape, {&condition, &a, &b});
  args.dtype = a.dtype();
  enqueue("where", {condition, a, b}, {y}, [=, a = a.detach(), b = b.detach(), y = y.detach()]() mutable {
    args.a = condition.raw();
    args.b = a.raw();
    args.c = b.raw();
    args.out = y.raw();
    where_kernel(args);
  });
  if (is_float(a.dtype()) && needs_record({&a, &b})) {
    Saved saved(condition);
    record("where", {a, b}, {y}, [=](const Tensors& dy, const Wanted& wanted) -> Tensors {
      Tensor zero = empty(Shape{}, dy[0].dtype(), dy[0].device());
      fill(zero, 0);
      const Tensor& chosen = saved.get("where");
      return {wanted[0] ? where(chosen, dy[0], zero) : Tensor(), wanted[1] ? where(chosen, zero, dy[0]) : Tensor()};
    });
  }
  return y;
}

}  // namespace lorikeet
