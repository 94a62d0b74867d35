#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// Inverted dropout: y = x / (1 - p) where uniform(seed, stream, element index) >= p, else 0; 0 <= p < 1. The mask is a function of its
/// counters, so backward makes it again and keeps nothing. Differentiable.
Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);

/// Contiguous arrays of n elements.
struct DropoutArgs {
  DType dtype;
  const void* x;
  void* out;
  int64_t n;
  double p;
  uint64_t seed, stream;
};
inline constinit Kernel<DropoutArgs> dropout_kernel{"dropout"};

}  // namespace lorikeet
