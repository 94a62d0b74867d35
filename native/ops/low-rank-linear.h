#pragma once

#include <optional>

#include "ops/low-rank-product.h"

namespace lorikeet {

/// y[.., N] = x[.., K] Wᵀ + bias + the low-rank products of each row's adapters. Formula, rounding, gradients and what is saved are those
/// of ops/low-rank-product.h. Without `segments` every row uses all adapters.
Tensor low_rank_linear(const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters,
                       const std::optional<std::vector<RowSegment>>& segments);

}  // namespace lorikeet
