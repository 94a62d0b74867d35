#pragma once

#include "core/tensor.h"

namespace lorikeet {

/// cache[b, positions[b] + t] = x[b, t] in place: cache [B, C, ..], x [B, T, ..] with equal further dimensions and dtype, positions i64 [B]
/// with 0 <= position <= C - T, checked when the op runs. Both may be views. Not recorded.
void cache_write(const Tensor& cache, const Tensor& x, const Tensor& positions);

}  // namespace lorikeet
