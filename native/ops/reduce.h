#pragma once

#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

enum class ReduceOp : int { sum, mean, max, min, argmax, argmin, count };
inline constexpr const char* kReduceNames[] = {"sum", "mean", "max", "min", "argmax", "argmin"};

/// Reduces the dimensions `dims` (all when empty). Sums accumulate in f32 (f64 for f64) in a fixed order of the reduced elements. i64 and
/// i32 tensors can be summed and compared; bool and u8 sum to i64. argmax/argmin take one dimension (or all, over the flattened tensor),
/// give i64 and the lowest index on ties. sum, mean, max and min are differentiable (ties of max and min share the gradient evenly).
Tensor reduce(ReduceOp op, const Tensor& x, const std::vector<int64_t>& dims, bool keep_dim);

/// x is [outer, reduced, inner], contiguous; y is [outer, inner].
struct ReduceArgs {
  ReduceOp op;
  DType dtype;
  const void* x;
  void* y;
  int64_t outer, reduced, inner;
};
inline constinit Kernel<ReduceArgs> reduce_kernel{"reduce"};

}  // namespace lorikeet
