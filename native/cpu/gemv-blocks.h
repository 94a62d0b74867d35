#pragma once

// A few rows of x times a panel of a quantised W whose blocks lie in groups of rows: values go from registers to the sums, and are written
// nowhere. Each output is the chain of a packed W.

#include "cpu/quantized-slices.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
/// Bytes of W that are on their way ahead of those that are multiplied.
inline constexpr int64_t kBlocksAhead = 4096;

/// R rows of x [R][left_stride] times the kRowGroup rows of W whose blocks begin at `codes`.
template <class Group, int R>
struct BlockRows {
  static constexpr int kSides = 2;
  static constexpr int64_t kGroupBytes = kRowGroup * Group::kBytes;

  const uint8_t* codes;
  const float* left;
  int64_t left_stride;

  LORIKEET_INLINE void add(const Group (&groups)[kSides], const float* x, FloatVector (&sum)[kSides][R]) const {
#pragma GCC unroll 32
    for (int j = 0; j < Group::kColumns; ++j) {
      FloatVector values[kSides];
#pragma GCC unroll 2
      for (int side = 0; side < kSides; ++side) values[side] = (FloatVector)groups[side].value(j);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const FloatVector factor = splat(x[r * left_stride + j]);
#pragma GCC unroll 2
        for (int side = 0; side < kSides; ++side) sum[side][r] = multiply_add(factor, values[side], sum[side][r]);
      }
    }
  }

  /// tile [R][2] = the sums over `blocks` blocks.
  LORIKEET_INLINE void multiply(int64_t blocks, FloatVector* tile) const {
    FloatVector sum[kSides][R]{};
    for (int64_t block = 0; block < blocks; ++block) {
      const uint8_t* group = codes + block * kGroupBytes;
#pragma GCC unroll 17
      for (int64_t i = 0; i < kGroupBytes; i += 64) __builtin_prefetch(group + kBlocksAhead + i);
      Group groups[kSides];
#pragma GCC unroll 2
      for (int side = 0; side < kSides; ++side) groups[side].read(group, side);
      add(groups, left + block * Group::kColumns, sum);
    }
#pragma GCC unroll 2
    for (int side = 0; side < kSides; ++side) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) tile[r * 2 + side] = sum[side][r];
    }
  }
};
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
