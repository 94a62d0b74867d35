#include "ops/matmul.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

/// x seen as [rows, columns] with one row stride, or undefined when its strides do not allow it.
Tensor flat_view(const Tensor& x) {
  const int rank = x.rank();
  int64_t rows = 1, stride = 0;
  for (int i = rank - 2; i >= 0; --i) {
    if (x.size(i) == 1) continue;
    if (rows == 1) {
      stride = x.strides()[i];
    } else if (x.strides()[i] != stride * rows) {
      return Tensor();
    }
    rows *= x.size(i);
  }
  return x.view({rows, x.size(-1)}, {stride, x.strides()[rank - 1]}, x.offset());
}

Shape batch_shape(const char* op, const Tensor& a, const Tensor& b) {
  Shape a_batch, b_batch;
  for (int i = 0; i + 2 < a.rank(); ++i) a_batch.push_back(a.size(i));
  for (int i = 0; i + 2 < b.rank(); ++i) b_batch.push_back(b.size(i));
  return broadcast_shapes(op, a_batch, b_batch);
}

/// Strides of the batch dimensions of x in a broadcast batch: zero where x repeats.
void batch_strides(const Tensor& x, const Shape& batch, int64_t* strides) {
  const int lead = batch.rank() - (x.rank() - 2);
  for (int i = 0; i < batch.rank(); ++i) {
    strides[i] = i < lead || x.size(i - lead) == 1 ? 0 : x.strides()[i - lead];
  }
}

void check_operands(const Tensor& a, const Tensor& b) {
  check_argument(a.dtype() == b.dtype() && is_float(a.dtype()), "matmul: dtypes do not fit; got a ", name_of(a.dtype()), " and b ",
                 name_of(b.dtype()), ", expected one floating dtype");
  check_shape(a.rank() >= 2 && b.rank() >= 2, "matmul: operands need at least two dimensions; got a ", to_string(a.shape()), " and b ",
              to_string(b.shape()));
  check_shape(a.size(-1) == b.size(-2), "matmul: inner sizes differ; got a ", to_string(a.shape()), " and b ", to_string(b.shape()));
  check(a.device() == Device::cpu && b.device() == Device::cpu, ErrorCode::device, "matmul: no cuda kernel in this build");
}

}  // namespace

Tensor transposed(const Tensor& x) {
  Shape shape = x.shape(), strides = x.strides();
  const int last = x.rank() - 1;
  shape[last] = x.shape()[last - 1];
  shape[last - 1] = x.shape()[last];
  strides[last] = x.strides()[last - 1];
  strides[last - 1] = x.strides()[last];
  return x.view(shape, strides, x.offset());
}

Tensor as_matrix(const Tensor& x) {
  if (x.rank() == 1) return as_matrix(x.view({1, x.size(0)}, {x.size(0), x.strides()[0]}, x.offset()));
  Tensor view = flat_view(x);
  if (view.defined() && (view.strides()[1] == 1 || view.size(1) <= 1)) return view;
  NoGrad no_grad;
  return flat_view(contiguous(x.detach()));
}

Tensor matmul_raw(const char* op, const Tensor& a, const Tensor& b, DType out) {
  Shape shape = batch_shape(op, a, b);
  Shape batch = shape;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor y = empty(shape, out, a.device());

  // One matrix b for a whole batch of a: their rows are one long matrix.
  Tensor left = a.detach(), right = b.detach();
  if (a.rank() > 2 && b.rank() == 2) {
    left = flat_view(a);
    if (!left.defined()) {
      NoGrad no_grad;
      left = flat_view(contiguous(a.detach()));
    }
    batch = Shape();
  }
  MatmulArgs args{};
  args.dtype = a.dtype();
  args.out_dtype = out;
  args.m = left.size(-2);
  args.k = left.size(-1);
  args.n = right.size(-1);
  args.a_row = left.strides()[left.rank() - 2];
  args.a_column = left.strides()[left.rank() - 1];
  args.b_row = right.strides()[right.rank() - 2];
  args.b_column = right.strides()[right.rank() - 1];
  args.batch_rank = batch.rank();
  for (int i = 0; i < batch.rank(); ++i) args.batch[i] = batch[i];
  batch_strides(left, batch, args.a_batch);
  batch_strides(right, batch, args.b_batch);
  enqueue(op, {left, right}, {y}, [=]() mutable {
    args.a = left.raw();
    args.b = right.raw();
    args.y = y.raw();
    matmul_kernel(args);
  });
  return y;
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_operands(a, b);
  Tensor y = matmul_raw("matmul", a, b, a.dtype());
  if (!needs_record({&a, &b})) return y;
  Tensor out = y.detach();
  Saved saved_a(requires_grad(b) ? a : Tensor()), saved_b(requires_grad(a) ? b : Tensor());
  record("matmul", {a, b}, {out}, [=, dtype = a.dtype(), b_rank = b.rank()](const Tensors& dy, const Wanted& wanted) {
    Tensors gradients(2);
    if (wanted[0]) gradients[0] = matmul_raw("matmul", dy[0], transposed(saved_b.get("matmul")), dtype);
    if (wanted[1]) {
      Tensor left = saved_a.get("matmul"), right = dy[0];
      if (left.rank() > 2 && b_rank == 2) {
        // Σ over the batch as well: one long contraction.
        left = as_matrix(left);
        right = as_matrix(right);
      }
      gradients[1] = matmul_raw("matmul", transposed(left), right, dtype);
    }
    return gradients;
  });
  return out;
}

}  // namespace lorikeet
