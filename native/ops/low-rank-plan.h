#pragma once

#include <memory>
#include <vector>

#include "ops/low-rank-product.h"

namespace lorikeet {

/// Everything about one low-rank product that its forward and backward share, checked and without tensors.
struct LowRankProductPlan {
  const char* op;
  int64_t m, k, n;
  DType dtype;  // of x and y
  DType wide;   // of z and of the gradients of adapters
  Level level;
  Panel panel;
  Arithmetic arithmetic;
  struct Adapter {
    int64_t rank;
    double scale;
    DropoutMask mask;
    int64_t rows;                  // of all its segments
    std::vector<RowRange> ranges;  // of x against z
    double keep_scale() const { return mask.p > 0 ? 1.0 / (1.0 - mask.p) : 1.0; }
  };
  std::vector<Adapter> adapters;
  std::vector<LowRankRows> rows;
};
using LowRankPlanPtr = std::shared_ptr<const LowRankProductPlan>;

/// Checks all shapes, dtypes and segments; throws errors that begin with `op`.
LowRankPlanPtr plan_low_rank_product(const char* op, const Tensor& x, const LowRankLayer& layer);

}  // namespace lorikeet
