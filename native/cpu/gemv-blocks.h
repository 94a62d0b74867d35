#pragma once

// A few rows of x times a panel of a quantised W in its blocks: values go from registers to the sums, and are written nowhere. Each output
// is the chain of a packed W.

#include "cpu/quantized-slices.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
/// How the blocks of a format are turned. kTogether blocks of a row are so many whole pieces of 16 bytes that no byte is turned twice;
/// 1 where blocks do not begin at a word.
template <class Group>
inline constexpr int kBlocksTogether = 1;
template <>
inline constexpr int kBlocksTogether<TurnedNibbles<Q4_1, true>> = 4;

/// R rows of x [R][left_stride] and the 2 * kVector rows of W that begin at `codes`.
template <class Group, int R>
struct BlockRows {
  static constexpr int kSides = 2;
  static constexpr int kTogether = kBlocksTogether<Group>;

  const uint8_t* codes;
  int64_t row_bytes;
  const float* left;
  int64_t left_stride;

  LORIKEET_INLINE auto rows_from(int64_t first) const {
    return [quad = codes + first * row_bytes, row_bytes = row_bytes](int i) __attribute__((always_inline)) {
      return quad + (i / 4 * 4) * row_bytes + i % 4 * row_bytes;
    };
  }

  LORIKEET_INLINE void add(const Group (&groups)[kSides], int64_t column, FloatVector (&sum)[kSides][R]) const {
    const float* x = left + column;
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

  /// kTogether blocks from column `column` on, turned piece by piece.
  LORIKEET_INLINE void add_together(int64_t column, FloatVector (&sum)[kSides][R]) const {
    constexpr int kWords = Q4_1::kBytes / 4, kPieces = kWords * kTogether / 4;
    __m512i words[kSides][4 * kPieces];
    const int64_t offset = column / Group::kColumns * Q4_1::kBytes;
    for (int side = 0; side < kSides; ++side) {
#pragma GCC unroll 5
      for (int piece = 0; piece < kPieces; ++piece) {
        __m512i turned[4];
        turned_words(rows_from(side * kVector), offset + 16 * piece, turned);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) words[side][4 * piece + i] = turned[i];
      }
    }
    for (int block = 0; block < kTogether; ++block) {
      Group groups[kSides];
#pragma GCC unroll 2
      for (int side = 0; side < kSides; ++side) groups[side].set(words[side][block * kWords], words[side] + block * kWords + 1);
      add(groups, column + block * Group::kColumns, sum);
    }
  }

  /// tile [R][2] = the sums over `blocks` blocks. The next panel is on its way meanwhile.
  LORIKEET_INLINE void multiply(int64_t blocks, FloatVector* tile) const {
    FloatVector sum[kSides][R]{};
    const int64_t bytes = kSides * kVector * row_bytes;
    const uint8_t* next = codes + bytes;
    int64_t asked = 0;
    const auto ask = [&](int64_t end) __attribute__((always_inline)) {
      for (; asked < bytes * end / blocks; asked += 64) __builtin_prefetch(next + asked, 0, 2);
    };
    int64_t block = 0;
    if constexpr (kTogether > 1) {
      for (; block + kTogether <= blocks; block += kTogether) {
        ask(block + kTogether);
        add_together(block * Group::kColumns, sum);
      }
    }
    for (; block < blocks; ++block) {
      ask(block + 1);
      Group groups[kSides];
#pragma GCC unroll 2
      for (int side = 0; side < kSides; ++side) groups[side].read(rows_from(side * kVector), block * Group::kColumns);
      add(groups, block * Group::kColumns, sum);
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
