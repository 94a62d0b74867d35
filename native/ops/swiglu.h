#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// silu(gate) · up elementwise, silu(x) = x / (1 + e^-x), computed in f32 (f64 for f64) and rounded once. gate and up of one shape and
/// floating dtype. Differentiable in both.
Tensor swiglu(const Tensor& gate, const Tensor& up);

/// Contiguous arrays of n elements.
struct SwigluArgs {
  DType dtype;
  const void* gate;
  const void* up;
  const void* dy;  // backward
  void* out;       // forward
  void* dgate;     // backward, or null
  void* dup;       // backward, or null
  int64_t n;
};
inline constinit Kernel<SwigluArgs> swiglu_fwd_kernel{"swiGlu"};
inline constinit Kernel<SwigluArgs> swiglu_bwd_kernel{"swiGlu backward"};

}  // namespace lorikeet
