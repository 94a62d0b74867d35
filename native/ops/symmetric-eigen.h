#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// Eigendecomposition of symmetric x [.., N, N] (floating, any strides, CPU; 16-bit types as f32), whose lower triangles are read ->
/// {values
/// [.., N] rising, vectors [.., N, N] in columns}: x vectors = vectors diag(values). The sign of a vector is LAPACK's. Leading dimensions
/// are a batch. Values that are not finite poison the results with a non-finite error. Not differentiable.
std::vector<Tensor> symmetric_eigen(const Tensor& x);

}  // namespace lorikeet
