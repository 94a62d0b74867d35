#pragma once

#include "core/elementwise.h"
#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// y = f(x; p, q) elementwise, same shape and dtype (f64, f32, bf16, f16; computed in f32 for the 16-bit types).
/// Parameters: affine p·x + q, pow x^p, clamp to [p, q]; ignored by the others. Differentiable.
Tensor unary(UnaryOp op, const Tensor& x, double p, double q);

/// a ∘ b elementwise with broadcasting; one dtype (floats, i64, i32). Differentiable for floats; division of integers truncates.
Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b);

/// Comparison with broadcasting; one dtype (any but bf16/f16 mixing), result bool. Not differentiable.
Tensor compare(CompareOp op, const Tensor& a, const Tensor& b);

/// condition ? a : b with broadcasting; condition bool, a and b of one dtype. Differentiable in a and b.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

/// Contiguous arrays of n elements. For backward: dx = dy · f'(saved).
struct UnaryArgs {
  UnaryOp op;
  DType dtype;
  const void* x;   // forward: input; backward: the saved input or output
  const void* dy;  // backward only
  void* out;
  int64_t n;
  double p, q;
};
inline constinit Kernel<UnaryArgs> unary_fwd_kernel{"unary"};
inline constinit Kernel<UnaryArgs> unary_bwd_kernel{"unary backward"};

/// A loop over `rows` x `columns` with strides in elements; the output is contiguous. Rows are addressed through up to kMaxRank - 1 outer
/// dimensions.
struct BroadcastArgs {
  int op;
  DType dtype;
  const void* a;
  const void* b;
  const void* c;
  void* out;
  int outer_rank;
  int64_t outer_sizes[8];
  int64_t outer_strides[3][8];
  int64_t rows, columns;
  int64_t column_strides[3];
};
inline constinit Kernel<BroadcastArgs> binary_kernel{"binary"};
inline constinit Kernel<BroadcastArgs> compare_kernel{"compare"};
inline constinit Kernel<BroadcastArgs> where_kernel{"where"};

}  // namespace lorikeet
