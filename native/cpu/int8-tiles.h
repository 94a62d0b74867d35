#pragma once

// Register blocks of products of 8-bit integers by tiles: the exact i32 sums of a group of the contraction, two steps of 64, by 2 x 2 tiles
// of accumulators; then times the scales of the rows, in f32, added in memory. Sums and roundings are those of cpu/int8-micro.h, and so are
// the bits. Tiles is the policy: AmxTiles or EmulatedTiles.
//   left    rows of signed codes as cpu/int8-rows.h makes them, whole steps long; what lies past the contraction does not count
//   right   panel of ops/int8-panels.h, 32 outputs wide: the 16 words of a step times 16 outputs are a tile as they lie

#include "cpu/int8-rows.h"
#include "cpu/integers.h"
#include "cpu/tile-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kInt8Depth = 64;                           // contraction elements of a step
inline constexpr int64_t kInt8StepBytes = kTilePairs * kPairBytes;  // of a panel
/// Bytes of a whole group of a panel: sums for unsigned left codes, which signed ones do without, then the codes.
inline constexpr int64_t kInt8SumBytes = kTileBlock * 4;
inline constexpr int64_t kInt8GroupBytes = kInt8SumBytes + kInt8Group * kTileBlock;
static_assert(kInt8Group % kInt8Depth == 0);

/// One step: 64 codes of up to 32 rows `row_stride` bytes apart.
template <class Tiles, bool Lower>
LORIKEET_INLINE void add_int8_step(const uint8_t* left, int64_t row_stride, const char* right) {
  Tiles::template load<6>(right, kPairBytes);
  Tiles::template load<4>(left, row_stride);
  Tiles::template dot_i8<0, 4, 6>();
  Tiles::template load<7>(right + kTileRowBytes, kPairBytes);
  Tiles::template dot_i8<1, 4, 7>();
  if constexpr (Lower) {
    Tiles::template load<5>(left + kTileHalf * row_stride, row_stride);
    Tiles::template dot_i8<2, 5, 6>();
    Tiles::template dot_i8<3, 5, 7>();
  }
}

/// sums[rows][32] of `count` contraction elements whose codes begin at `right`.
template <class Tiles, bool Lower>
void int8_group_sums(const uint8_t* left, int64_t row_stride, const char* right, int64_t count, LastStep& last, int32_t* sums) {
  zero_block<Tiles, Lower, true>();
  int64_t i = 0;
  for (; i + kInt8Depth <= count; i += kInt8Depth, right += kInt8StepBytes) add_int8_step<Tiles, Lower>(left + i, row_stride, right);
  if (i < count) add_int8_step<Tiles, Lower>(left + i, row_stride, last.filled(right, (count - i + 3) / 4, kPairBytes));
  store_block<Tiles, Lower, true>(sums);
}

/// tile[rows][32] (+)= groups [begin, end) of `rows` rows, 1 to 32, times a panel over k contraction elements.
template <class Tiles>
void int8_tile_product(TileRegion<Tiles>& region, int64_t rows, int64_t k, const Int8Rows& left, const char* panel, int64_t begin,
                       int64_t end, LastStep& last, float* tile) {
  region.configure(rows);
  alignas(64) int32_t sums[kTileBlock * kTileBlock];
  if (begin == 0) memset(tile, 0, rows * kTileBlock * sizeof(float));
  for (int64_t group = begin; group < end; ++group) {
    const uint8_t* codes = left.codes + group * kInt8Group;
    const char* right = panel + group * kInt8GroupBytes + kInt8SumBytes;
    const int64_t count = smaller(kInt8Group, k - group * kInt8Group);
    if (rows > kTileHalf) {
      int8_group_sums<Tiles, true>(codes, left.row_stride, right, count, last, sums);
    } else {
      int8_group_sums<Tiles, false>(codes, left.row_stride, right, count, last, sums);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const float scale = left.scales[row * left.groups + group];
      const int32_t* sum = sums + row * kTileBlock;
      float* total = tile + row * kTileBlock;
      for (int64_t j = 0; j < kTileBlock; ++j) total[j] = fma(static_cast<float>(sum[j]), scale, total[j]);
    }
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
