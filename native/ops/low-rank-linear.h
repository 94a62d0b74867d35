#pragma once

#include <optional>

#include "ops/low-rank-product.h"

namespace lorikeet {

/// y[.., N] = x[.., K] Wᵀ + bias + the low-rank products of each row's adapters. Formula, rounding, gradients and what is saved are those
/// of ops/low-rank-product.h. Without `segments` every row uses all adapters.
Tensor low_rank_linear(const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters,
                       const std::optional<std::vector<RowSegment>>& segments);

/// One of the layers of one x, as low_rank_linear takes it.
struct LinearLayer {
  BaseWeight weight;
  Tensor bias;
  LowRankAdapters adapters;
  std::optional<std::vector<RowSegment>> segments;
};

/// The outputs of some layers of one x: see low_rank_products.
Tensors low_rank_linears(const Tensor& x, const std::vector<LinearLayer>& layers);

}  // namespace lorikeet
