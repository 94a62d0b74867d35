#pragma once

#include "core/tensor.h"

namespace lorikeet {

/// Lower l [.., N, N] with l l^T = x for symmetric positive definite x [.., N, N] (floating, any strides, CPU; 16-bit types as f32), whose
/// lower triangles are read. Leading dimensions are a batch. A pivot that is not positive poisons the result with an invalid-argument error
/// that names its row; so do values that are not finite, with a non-finite error. Not differentiable.
Tensor cholesky(const Tensor& x);

}  // namespace lorikeet
