#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// The leading part of an SVD by a randomised range finder ("Finding structure with randomness", algorithms 4.4 and 5.1), as
/// torch.svd_lowrank: x [.., M, N] (floating, any strides, CPU; computed in f32, f64 for f64) -> {u [.., M, K], s [.., K] falling, v
/// [.., N, K]}, K = min(q, M, N), u and v with orthonormal columns. The sketch is normal numbers of the counters (seed, stream), the same
/// for each matrix of a batch; columns are made orthonormal after each half of the `iterations` power steps. Values that are not finite
/// poison the results with a non-finite error. Not differentiable.
std::vector<Tensor> svd_lowrank(const Tensor& x, int64_t q, int64_t iterations, uint64_t seed, uint64_t stream);

}  // namespace lorikeet
