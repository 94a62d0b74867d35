#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// Reduced SVD: x [.., M, N] (floating, any strides, CPU; 16-bit types as f32) -> {u [.., M, K], s [.., K], vt [.., K, N]} with K = min(M,
/// N), u^T u = vt vt^T = 1, s falling and not negative, u diag(s) vt = x. The sign of a pair of singular vectors is LAPACK's. Leading
/// dimensions are a batch; each matrix is decomposed alone. Values that are not finite poison the results with a non-finite error. Not
/// differentiable: throws when a gradient would be recorded.
std::vector<Tensor> svd(const Tensor& x);

}  // namespace lorikeet
