#pragma once

#include <utility>
#include <vector>

#include "ops/low-rank-plan.h"

namespace lorikeet {

/// Adapters of one or several layers of one x, with the same rows: their z lie side by side as columns of one tensor [rows, columns], in
/// the order of `members` (layer, adapter). One with dropout is alone.
struct LowRankStack {
  std::vector<std::pair<size_t, size_t>> members;
  int64_t columns = 0;
};

/// Puts every adapter that `takes_part[layer][adapter]` into one stack.
std::vector<LowRankStack> stack_adapters(const std::vector<LowRankPlanPtr>& plans, const std::vector<std::vector<bool>>& takes_part);

/// z [rows, rank] by layer and adapter, undefined for those in no stack; and the tensor of every stack.
struct StackedZ {
  std::vector<LowRankStack> stacks;
  std::vector<Tensors> of;
  Tensors whole;
};
StackedZ empty_z(const std::vector<LowRankPlanPtr>& plans, std::vector<LowRankStack> stacks);

/// A factor of a term as a product sees it: shrink contracts over the columns of x, expand over the rank.
struct LowRankFactor {
  Tensor source;
  int output_dim;  // dimension of `source` that is the output; the other one is contracted
  double scale;
};

/// A low-rank product to run: of the forward (x, A, scale B) or of the backward (dy, scale Bᵀ, Aᵀ).
struct LowRankRun {
  LowRankPlanPtr plan;
  bool backward;
  Tensor x;
  PackedOperand right;                        // undefined: no base product
  Tensor bias, y;                             // y undefined: only z is wanted
  std::vector<size_t> adapters;               // those that take part
  std::vector<LowRankFactor> shrink, expand;  // one for each of `adapters`
  Tensors z, biases;                          // likewise
};

/// Queues the products of some layers as one job: the forward with an output for each, the backward summed into the output of the first.
/// Adapters of the forward that are in one stack are multiplied by together.
void enqueue_low_rank(std::vector<LowRankRun> runs, const std::vector<LowRankStack>& stacks);

}  // namespace lorikeet
