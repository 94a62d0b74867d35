#pragma once

// Register blocks of the tile product: c[rows][32] (+)= left rows · right panel, in steps of 32 contraction elements, by 2 x 2 tiles of 16
// x 16 accumulators. Tiles is the policy: AmxTiles or EmulatedTiles.
//   left    [step][32 rows][32] bf16, zero past the contraction; rows from any row of a block on, up to 32 of them
//   right   bf16 panel of ops/gemm.h, one or two vectors of 16 outputs wide: the 16 pairs of a step times 16 outputs are a tile as they lie
// Rows past 16 take the lower tiles. A block of fewer rows has tiles of fewer rows, which also take less time.

#include <cstring>

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kTileDepth = 32;     // contraction elements of a step
inline constexpr int64_t kTilePairs = 16;     // pairs of a step: rows of a right tile
inline constexpr int64_t kTileBlock = 32;     // rows and columns of a block of accumulators
inline constexpr int64_t kTileHalf = 16;      // rows and columns of one tile
inline constexpr int64_t kTileRowBytes = 64;  // of a left tile, and of a right one
inline constexpr int64_t kLeftStepBytes = kTileBlock * kTileRowBytes;

/// Bytes from one pair to the next of a panel two vectors wide.
inline constexpr int64_t kPairBytes = 2 * kTileRowBytes;

LORIKEET_INLINE constexpr int64_t tile_steps(int64_t k) { return (k + kTileDepth - 1) / kTileDepth; }

/// Bytes of a left block over a contraction of length k.
LORIKEET_INLINE constexpr int64_t tile_left_bytes(int64_t k) { return tile_steps(k) * kLeftStepBytes; }

/// A stretch of tile code on this thread: keeps the configuration in force, gives the tiles back at its end.
template <class Tiles>
class TileRegion {
 public:
  TileRegion() = default;
  ~TileRegion() {
    if (rows_ != 0) Tiles::release();
  }
  TileRegion(const TileRegion&) = delete;
  TileRegion& operator=(const TileRegion&) = delete;

  /// Tiles for blocks of `rows` rows, 1 to 32.
  LORIKEET_INLINE void configure(int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    const auto upper = static_cast<uint8_t>(rows < kTileHalf ? rows : kTileHalf), lower = static_cast<uint8_t>(rows - upper);
    Tiles::configure({upper, upper, lower, lower, upper, lower, kTilePairs, kTilePairs});
  }

 private:
  int64_t rows_ = 0;
};

// Tiles 0 to 3 hold the accumulators (upper left, upper right, lower left, lower right), 4 and 5 the left rows, 6 and 7 the right columns.

template <class Tiles, bool Lower, bool Right>
LORIKEET_INLINE void zero_block() {
  Tiles::template zero<0>();
  if constexpr (Right) Tiles::template zero<1>();
  if constexpr (Lower) Tiles::template zero<2>();
  if constexpr (Lower && Right) Tiles::template zero<3>();
}

template <class Tiles, bool Lower, bool Right>
LORIKEET_INLINE void load_block(const float* c) {
  constexpr int64_t kStride = kTileBlock * sizeof(float);
  Tiles::template load<0>(c, kStride);
  if constexpr (Right) Tiles::template load<1>(c + kTileHalf, kStride);
  if constexpr (Lower) Tiles::template load<2>(c + kTileHalf * kTileBlock, kStride);
  if constexpr (Lower && Right) Tiles::template load<3>(c + kTileHalf * kTileBlock + kTileHalf, kStride);
}

/// Into rows of kTileBlock f32, or i32 where the sums are such.
template <class Tiles, bool Lower, bool Right, class Sum>
LORIKEET_INLINE void store_block(Sum* c) {
  constexpr int64_t kStride = kTileBlock * sizeof(Sum);
  Tiles::template store<0>(c, kStride);
  if constexpr (Right) Tiles::template store<1>(c + kTileHalf, kStride);
  if constexpr (Lower) Tiles::template store<2>(c + kTileHalf * kTileBlock, kStride);
  if constexpr (Lower && Right) Tiles::template store<3>(c + kTileHalf * kTileBlock + kTileHalf, kStride);
}

/// `count` steps from `left` and `right` on. `stride` is that of the pairs of the panel, in bytes.
template <class Tiles, bool Lower, bool Right>
LORIKEET_INLINE void add_steps(int64_t count, const char* left, const char* right, int64_t stride) {
  for (int64_t step = 0; step < count; ++step) {
    Tiles::template load<6>(right, stride);
    Tiles::template load<4>(left, kTileRowBytes);
    Tiles::template dot<0, 4, 6>();
    if constexpr (Right) {
      Tiles::template load<7>(right + kTileRowBytes, stride);
      Tiles::template dot<1, 4, 7>();
    }
    if constexpr (Lower) {
      Tiles::template load<5>(left + kTileHalf * kTileRowBytes, kTileRowBytes);
      Tiles::template dot<2, 5, 6>();
      if constexpr (Right) Tiles::template dot<3, 5, 7>();
    }
    left += kLeftStepBytes;
    right += kTilePairs * stride;
  }
}

/// One operand pair of a product: the contraction of a weight, a part of it, or the rank of a low-rank term.
struct TileChain {
  const char* left;
  const char* right;
  int64_t k;         // contraction elements; all but those of the last chain part are whole steps
  const char* last;  // the last, incomplete step of the panel filled with zero (see LastStep); not read when k is whole
};

template <class Tiles, bool Lower, bool Right>
void tile_block(const TileChain* chains, int64_t count, int64_t stride, float* c, bool accumulate) {
  if (accumulate) {
    load_block<Tiles, Lower, Right>(c);
  } else {
    zero_block<Tiles, Lower, Right>();
  }
  for (int64_t i = 0; i < count; ++i) {
    const TileChain& chain = chains[i];
    const int64_t whole = chain.k / kTileDepth;
    add_steps<Tiles, Lower, Right>(whole, chain.left, chain.right, stride);
    if (whole * kTileDepth < chain.k) add_steps<Tiles, Lower, Right>(1, chain.left + whole * kLeftStepBytes, chain.last, stride);
  }
  store_block<Tiles, Lower, Right>(c);
}

/// c[rows][32] (+)= the chains in order, for panels `vectors` (1 or 2) vectors wide of which the first `columns` outputs are wanted.
template <class Tiles>
void tile_product(TileRegion<Tiles>& region, int64_t rows, int64_t columns, int vectors, const TileChain* chains, int64_t count, float* c,
                  bool accumulate) {
  region.configure(rows);
  const bool lower = rows > kTileHalf, right = vectors == 2 && columns > kTileHalf;
  const int64_t stride = vectors * kTileRowBytes;
  if (lower && right) return tile_block<Tiles, true, true>(chains, count, stride, c, accumulate);
  if (lower) return tile_block<Tiles, true, false>(chains, count, stride, c, accumulate);
  if (right) return tile_block<Tiles, false, true>(chains, count, stride, c, accumulate);
  return tile_block<Tiles, false, false>(chains, count, stride, c, accumulate);
}

/// The last, incomplete step of a panel as a whole one. Made anew only when another step is asked for.
class LastStep {
 public:
  /// For the panel at `panel` of pairs `stride` bytes apart, over a contraction of length k.
  LORIKEET_INLINE const char* of(const char* panel, int64_t k, int64_t stride) {
    const int64_t rest = k % kTileDepth;
    return rest == 0 ? nullptr : filled(panel + k / kTileDepth * kTilePairs * stride, (rest + 1) / 2, stride);
  }
  /// For the step whose `rows` < kTilePairs rows lie at `step`, `stride` bytes apart.
  LORIKEET_INLINE const char* filled(const char* step, int64_t rows, int64_t stride) {
    if (step != step_) {
      memcpy(whole_, step, rows * stride);
      memset(whole_ + rows * stride, 0, (kTilePairs - rows) * stride);
      step_ = step;
    }
    return whole_;
  }

 private:
  alignas(64) char whole_[kTilePairs * 2 * kTileRowBytes];
  const char* step_ = nullptr;
};

}  // namespace lorikeet::LORIKEET_LEVEL
