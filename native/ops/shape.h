#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

// Views: the result shares memory with x (reshape copies where the strides do not allow a view). All differentiable.

/// The same elements in another shape; one size may be -1.
Tensor reshape(const Tensor& x, const Shape& shape);
/// Dimension i of the result is dimension order[i] of x.
Tensor permute(const Tensor& x, const std::vector<int64_t>& order);
/// x[.., start : start + length, ..] along `dim`.
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
/// Repeats dimensions of size 1 (and adds leading ones) without copying.
Tensor expand(const Tensor& x, const Shape& shape);

}  // namespace lorikeet
