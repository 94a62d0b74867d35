#pragma once

#include "cpu/attention-tile.h"
#include "cpu/stored-vector.h"
#include "cpu/transpose-rounds.h"

// Rows of a tile between memory, where a row is contiguous, and their turned form [column][lane], where it is a lane.

namespace lorikeet::LORIKEET_LEVEL {

/// Whether products are summed in bf16 pairs. Scores are products of what was stored in bf16; weights and their gradients are rounded to
/// it.
template <class T>
LORIKEET_INLINE bool in_pairs(int64_t columns) {
#if defined(__AVX512BF16__)
  return __is_same(T, BFloat16) && columns % 2 == 0;
#else
  (void)columns;
  return false;
#endif
}

/// to[c][lane] = word c of the row of that lane, zeros in the lanes without a row.
LORIKEET_INLINE void turn_words(const void* const* rows, int64_t count, int64_t words, int64_t lanes, float* __restrict__ to) {
  constexpr int kWidth = kVectorWidth<float>;
  for (int64_t strip = 0; strip < lanes; strip += kWidth) {
    for (int64_t first = 0; first < words; first += kWidth) {
      Vector<float> square[kWidth];
      if (first + kWidth <= words && strip + kWidth <= count) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth; ++i)
          __builtin_memcpy(&square[i], static_cast<const char*>(rows[strip + i]) + first * 4, sizeof square[i]);
        transpose_rounds<kWidth / 2>(square);
#pragma GCC unroll 16
        for (int c = 0; c < kWidth; ++c) store_vector(to + (first + c) * lanes + strip, square[c]);
        continue;
      }
      const int64_t part = words - first < kWidth ? words - first : kWidth;
      for (int i = 0; i < kWidth; ++i) {
        square[i] = strip + i < count ? load_part(static_cast<const float*>(rows[strip + i]) + first, part) : Vector<float>{};
      }
      transpose_rounds<kWidth / 2>(square);
      for (int64_t c = 0; c < part; ++c) store_vector(to + (first + c) * lanes + strip, square[c]);
    }
  }
}

/// The tile's rows of a tensor (strides of batch, time, head): `flat` [rows][width] with zeros up to width, where not null, and `turned`
/// [columns][lanes] with zeros in the lanes without a row; in pairs of columns, [columns / 2][lanes], where products are.
template <class T, class C>
LORIKEET_INLINE void gather_rows(const Tile& tile, const T* base, const int64_t (&strides)[3], int64_t columns, int64_t width,
                                 int64_t lanes, C* __restrict__ flat, C* __restrict__ turned) {
  const void* rows[kTileRows];
  for (int64_t row = 0; row < tile.rows; ++row) {
    const T* from = base + tile.offset(row, strides);
    rows[row] = from;
    if (flat == nullptr) continue;
    C* to = flat + row * width;
    for_each_vector<T>(columns, [&](int64_t c, int64_t count) { store_vector(to + c, load_stored(from + c, count)); });
    if (__is_same(T, C)) continue;
    rows[row] = in_pairs<T>(columns) ? static_cast<const void*>(from) : to;
  }
  if constexpr (__is_same(C, float)) {
    if (in_pairs<T>(columns)) return turn_words(rows, tile.rows, columns / 2, lanes, turned);
    if (__is_same(T, C) || flat != nullptr) return turn_words(rows, tile.rows, columns, lanes, turned);
  }
  for (int64_t row = 0; row < lanes; ++row) {
    const T* from = row < tile.rows ? base + tile.offset(row, strides) : nullptr;
    for (int64_t c = 0; c < columns; ++c) turned[c * lanes + row] = from != nullptr ? C(load(from + c)) : C(0);
  }
}

/// The rows of a tensor of the tile's rows from their turned form, times the factor of the lane.
template <class T, class C>
LORIKEET_INLINE void scatter_rows(const Tile& tile, const C* turned, int64_t columns, int64_t lanes, const C* factors, T* base,
                                  const int64_t (&strides)[3]) {
  if constexpr (__is_same(C, float)) {
    constexpr int kWidth = kVectorWidth<float>;
    for (int64_t strip = 0; strip < tile.rows; strip += kWidth) {
      const Vector<float> factor = load_vector(factors + strip);
      for (int64_t first = 0; first < columns; first += kWidth) {
        const int64_t part = columns - first < kWidth ? columns - first : kWidth;
        Vector<float> square[kWidth];
#pragma GCC unroll 16
        for (int c = 0; c < kWidth; ++c) {
          square[c] = c < part ? load_vector(turned + (first + c) * lanes + strip) * factor : Vector<float>{};
        }
        transpose_rounds<kWidth / 2>(square);
        for (int i = 0; i < kWidth && strip + i < tile.rows; ++i) {
          store_stored(base + tile.offset(strip + i, strides) + first, square[i], part);
        }
      }
    }
  } else {
    for (int64_t row = 0; row < tile.rows; ++row) {
      T* to = base + tile.offset(row, strides);
      for (int64_t c = 0; c < columns; ++c) store(to + c, turned[c * lanes + row] * factors[row]);
    }
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
