#pragma once

#include "core/tensor.h"

namespace lorikeet {

/// y [.., N, K] with a y = b for square a [.., N, N] and b [.., N, K] of the same leading sizes and dtype (floating, any strides, CPU;
/// 16-bit types as f32), by LU with partial pivoting. A zero pivot poisons the result with an invalid-argument error that names its row;
/// values of a that are not finite do so with a non-finite error. Not differentiable.
Tensor solve(const Tensor& a, const Tensor& b);

/// The same for triangular a, of which only the lower (or upper) half is read; a^T y = b when `transpose`. A zero on the diagonal poisons
/// the result.
Tensor solve_triangular(const Tensor& a, const Tensor& b, bool upper, bool transpose);

}  // namespace lorikeet
