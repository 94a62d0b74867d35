#pragma once

#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// y = weight · round(x · rstd), rstd = 1 / sqrt(mean(x²) + eps) over the last dimension, in f32 (f64 for f64); `round` is the rounding to
/// x's dtype, as published models are evaluated. x [.., D], weight [D] of x's dtype or f32; y has x's shape and dtype. Differentiable in x
/// and weight; backward keeps x and rstd (one number a row), and nothing for a gradient that is not wanted.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// x + addend and rms_norm(x + addend, weight, eps), in this order, in one pass and with the bits of the two ops. x and addend of one shape
/// and dtype. Differentiable in all three; backward adds the gradient of the sum to that which comes through the norm.
std::vector<Tensor> add_rms_norm(const Tensor& x, const Tensor& addend, const Tensor& weight, double eps);

/// x, addend, sum, y, dy, dsum, dx [rows, columns] contiguous; rstd [rows] in f32 (f64 for f64).
struct RmsNormArgs {
  DType dtype;
  DType weight_dtype;
  const void* x;  // backward of a sum: the sum
  const void* weight;
  const void* addend;  // null: the norm of x
  const void* dy;      // backward
  const void* dsum;    // backward, or null
  void* sum;           // where there is an addend
  void* rstd;          // forward writes, backward reads
  void* out;           // forward y; backward dx, or dweight in rms_norm_bwd_weight_kernel
  int64_t rows, columns;
  double eps;
};
inline constinit Kernel<RmsNormArgs> rms_norm_fwd_kernel{"rmsNorm"};
inline constinit Kernel<RmsNormArgs> rms_norm_bwd_kernel{"rmsNorm backward"};
inline constinit Kernel<RmsNormArgs> rms_norm_bwd_weight_kernel{"rmsNorm backward of the weight"};

}  // namespace lorikeet
