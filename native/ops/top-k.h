#pragma once

#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// The k largest elements of every row (last dimension) of a floating x, largest first, and their places: {values [.., k] of x's dtype,
/// indices [.., k] i64}. Equal elements are taken and listed lowest index first; NaN counts as larger than everything. 0 <= k <= row
/// length. Values are differentiable.
std::vector<Tensor> top_k(const Tensor& x, int64_t k);

/// x [rows, columns], values and indices [rows, k], contiguous.
struct TopKArgs {
  DType dtype;
  const void* x;
  void* values;
  int64_t* indices;
  int64_t rows, columns, k;
};
inline constinit Kernel<TopKArgs> top_k_kernel{"topK"};

}  // namespace lorikeet
