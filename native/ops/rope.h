#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// Rotary position embedding in the half-split form: with R/2 = width of the tables, pairs (x[i], x[i + R/2]) for i < R/2 turn by the angle
/// of the row's position, (x1 cos - x2 sin, x2 cos + x1 sin); elements from R on stay. x [B, T, H, K] with K >= R, cos and sin f32 [P,
/// R/2], positions i32 or i64 [B, T] in [0, P), checked when the op runs. Floats. Differentiable in x; keeps only the tables and the
/// positions.
Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& positions);

/// x and out [rows, heads, width] contiguous, one position a row.
struct RopeArgs {
  DType dtype;
  DType position_dtype;
  const void* x;
  const float* cos;
  const float* sin;
  const void* positions;
  void* out;
  int64_t rows, heads, width, half;
  bool inverse;  // backward: turn back
};
inline constinit Kernel<RopeArgs> rope_kernel{"rope"};

}  // namespace lorikeet
