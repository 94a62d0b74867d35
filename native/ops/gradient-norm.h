#pragma once

#include <vector>

#include "core/kernel.h"
#include "ops/tensor-list.h"

namespace lorikeet {

// Whole lists of floating tensors in one call. None of these is recorded.

/// The square root of the sum of squares of all elements of all tensors: a scalar, f32, or f64 when all tensors are f64. Summed in f64 over
/// fixed slices in the order of the list.
Tensor global_norm(const std::vector<Tensor>& tensors);

/// How many elements of all tensors are NaN or infinite: an i64 scalar.
Tensor non_finite_count(const std::vector<Tensor>& tensors);

/// Multiplies every element of contiguous tensors in place by a one-element f32 or f64 tensor.
void scale_in_place(const std::vector<Tensor>& tensors, const Tensor& scale);

/// One number a chunk into partials.
struct ListSumArgs {
  ListArgs list;
  double* partials;
};
inline constinit Kernel<ListSumArgs> square_sum_kernel{"globalNorm"};
inline constinit Kernel<ListSumArgs> non_finite_kernel{"nonFiniteCount"};

struct ListScaleArgs {
  ListArgs list;
  double scale;
};
inline constinit Kernel<ListScaleArgs> list_scale_kernel{"scaleInPlace"};

}  // namespace lorikeet
