#pragma once

#include "ops/packed-weight.h"

namespace lorikeet {

/// y[.., N] = x[.., K] Wᵀ + bias for a frozen packed W [N, K]; bias [N] or undefined. x in f32, bf16 or f16 meets a weight in any of these;
/// f64 meets f64 only. y has the dtype of x. Differentiable in x and bias; nothing of x is saved.
Tensor linear(const Tensor& x, const PackedWeightPtr& weight, const Tensor& bias);

/// The same for a dense W, which is packed in every call; differentiable in W too, for which x is saved.
Tensor linear_dense(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace lorikeet
