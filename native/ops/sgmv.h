#pragma once

#include "ops/low-rank-product.h"

namespace lorikeet {

/// Segmented low-rank products alone: y[.., N] = Σ_i scale_i (x A_iᵀ) B_iᵀ over the adapters of each row's segment, zero for rows outside
/// every segment. A segment may be one row. Numerics and gradients as in ops/low-rank-product.h.
Tensor sgmv(const Tensor& x, const LowRankAdapters& adapters, const std::vector<RowSegment>& segments);

}  // namespace lorikeet
