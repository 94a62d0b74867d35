#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// Reduced QR: x [.., M, N] (floating, any strides, CPU; 16-bit types as f32) -> {q [.., M, K], r [.., K, N]} with K = min(M, N), q^T q =
/// 1, r upper triangular, q r = x. Signs are those of LAPACK's Householder reflections: the diagonal of r may be negative. Leading
/// dimensions are a batch; each matrix is factored alone. Not differentiable: throws when a gradient through it would be recorded.
std::vector<Tensor> qr(const Tensor& x);

}  // namespace lorikeet
