#pragma once

#include "core/tensor.h"

namespace lorikeet {

// The few tensor operations that the tape itself needs; implemented in ops/gradient-ops.cc. Never recorded.

/// a + b, same shape and dtype.
Tensor add_gradients(const Tensor& a, const Tensor& b);
/// Sums the axes that broadcasting added or widened, and casts, so that the result has this shape and dtype.
Tensor reduce_to(const Tensor& gradient, const Shape& shape, DType dtype);
/// A new tensor filled with one number.
Tensor filled(const Shape& shape, DType dtype, Device device, double value);

}  // namespace lorikeet
