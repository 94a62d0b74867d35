#pragma once

#include <optional>
#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// y = (x - mean) · rstd · weight + bias over the last dimension, rstd = 1 / sqrt(variance + eps) with the population variance, all in f32
/// (f64 for f64). x [.., D]; weight and bias [D] of x's dtype or both f32, either may be absent (1 and 0); y has x's shape and dtype.
/// Differentiable in all three; backward keeps x, the mean and rstd, and nothing for a gradient that is not wanted.
Tensor layer_norm(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, double eps);

/// x + addend and layer_norm(x + addend, weight, bias, eps), in this order, in one pass and with the bits of the two ops. x and addend of
/// one shape and dtype. Differentiable in all four; backward adds the gradient of the sum to that which comes through the norm.
std::vector<Tensor> add_layer_norm(const Tensor& x, const Tensor& addend, const std::optional<Tensor>& weight,
                                   const std::optional<Tensor>& bias, double eps);

/// x, addend, sum, y, dy, dsum, dx [rows, columns] contiguous; mean and rstd [rows] in f32 (f64 for f64); weight and bias may be null.
struct LayerNormArgs {
  DType dtype;
  DType weight_dtype;
  const void* x;  // backward of a sum: the sum
  const void* weight;
  const void* bias;
  const void* addend;  // null: the norm of x
  const void* dy;
  const void* dsum;  // backward, or null
  void* sum;         // where there is an addend
  void* mean;
  void* rstd;
  void* out;  // forward y; backward dx, or dweight, or dbias
  int64_t rows, columns;
  double eps;
};
inline constinit Kernel<LayerNormArgs> layer_norm_fwd_kernel{"layerNorm"};
inline constinit Kernel<LayerNormArgs> layer_norm_bwd_kernel{"layerNorm backward"};
inline constinit Kernel<LayerNormArgs> layer_norm_bwd_weight_kernel{"layerNorm backward of the weight"};
inline constinit Kernel<LayerNormArgs> layer_norm_bwd_bias_kernel{"layerNorm backward of the bias"};

}  // namespace lorikeet
