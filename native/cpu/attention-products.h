#pragma once

#include "cpu/attention-rows.h"
#include "cpu/pair-product.h"
#include "cpu/tile-product.h"

// The products of attention over one key block. In pairs (see in_pairs), weights are rounded to bf16 where they are made: as pairs of keys
// [key / 2][lane] for sums over keys, and as rows [key][lane] for sums over the rows of the tile.

namespace lorikeet::LORIKEET_LEVEL {

/// Rows of a matrix as C: the memory itself where it has that form, else `room` [count][columns] filled from it.
template <class T, class C>
LORIKEET_INLINE const C* rows_as(const T* from, int64_t stride, int64_t count, int64_t columns, C* __restrict__ room, int64_t& out_stride) {
  if constexpr (__is_same(T, C)) {
    out_stride = stride;
    return from;
  } else {
    for (int64_t i = 0; i < count; ++i) {
      for_each_vector<T>(columns,
                         [&](int64_t c, int64_t n) { store_stored(room + i * columns + c, load_stored(from + i * stride + c, n), n); });
    }
    out_stride = columns;
    return room;
  }
}

/// Elements of the room that the products below need.
template <class C>
LORIKEET_INLINE int64_t key_room_size(int64_t columns) {
  return kBlockKeys * padded<C>(columns);
}

/// scores [count][lanes] = the products of `count` rows of keys (or values) and the rows of the tile, `turned` as gather_rows made them.
template <class T, class C>
LORIKEET_INLINE void score_products(const T* rows, int64_t stride, int64_t count, int64_t columns, int64_t lanes, const C* turned, C* room,
                                    C* scores) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (in_pairs<T>(columns)) {
      return pair_product(count, lanes, columns / 2, {rows, stride, 2}, reinterpret_cast<const uint32_t*>(turned), lanes, scores, lanes,
                          false);
    }
  }
#endif
  int64_t room_stride;
  const C* block = rows_as<T, C>(rows, stride, count, columns, room, room_stride);
  product<C>(count, lanes, columns, {block, room_stride, 1}, turned, lanes, scores, lanes, false);
}

/// out [columns][lanes] += Σ over `count` keys of rows [key][columns] times weights [key][lanes] (in pairs: pairs of keys).
template <class T, class C>
LORIKEET_INLINE void sum_over_keys(const C* weights, int64_t lanes, const T* rows, int64_t stride, int64_t count, int64_t columns, C* room,
                                   C* out) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (in_pairs<T>(columns)) {
      const int64_t width = padded<C>(columns);
      auto* left = reinterpret_cast<uint32_t*>(room);
      for (int64_t j = 0; j < count; j += 2) {
        pair_rows(rows + j * stride, j + 1 < count ? rows + (j + 1) * stride : nullptr, columns, left + j / 2 * width);
      }
      return pair_product(columns, lanes, (count + 1) / 2, {reinterpret_cast<const BFloat16*>(left), 2, 2 * width},
                          reinterpret_cast<const uint32_t*>(weights), lanes, out, lanes, true);
    }
  }
#endif
  int64_t room_stride;
  const C* block = rows_as<T, C>(rows, stride, count, columns, room, room_stride);
  product<C>(columns, lanes, count, {block, 1, room_stride}, weights, lanes, out, lanes, true);
}

/// out [count][width] += Σ over the rows of the tile of weights [key][lanes] (in pairs: bf16) times `flat` [row][width] (in pairs: what
/// pair_flat_rows made of it).
template <class T, class C>
LORIKEET_INLINE void sum_over_tile(const Tile& tile, const void* weights, int64_t lanes, const C* flat, int64_t count, int64_t columns,
                                   C* out) {
  const int64_t width = padded<C>(columns);
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (in_pairs<T>(columns)) {
      return pair_product(count, width, (tile.rows + 1) / 2, {static_cast<const BFloat16*>(weights), lanes, 2},
                          reinterpret_cast<const uint32_t*>(flat), width, out, width, true);
    }
  }
#endif
  const Left<C> left{static_cast<const C*>(weights), lanes, 1};
#if defined(__AVX512F__)
  if constexpr (__is_same(C, float)) {
    if (columns <= kHalfColumns) return half_product(count, tile.rows, left, flat, width, out, width);
  }
#endif
  product<C>(count, width, tile.rows, left, flat, width, out, width, true);
}

/// Where products are in pairs: rows [rows][width] of a tile become pairs of rows, in place.
template <class T, class C>
LORIKEET_INLINE void pair_flat_rows([[maybe_unused]] int64_t rows, [[maybe_unused]] int64_t columns, [[maybe_unused]] C* flat) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (!in_pairs<T>(columns)) return;
    const int64_t width = padded<C>(columns);
    auto* pairs = reinterpret_cast<uint32_t*>(flat);
    for (int64_t row = 0; row < rows; row += 2) {
      for (int64_t c = 0; c < width; c += 16) {
        const __m512 odd = row + 1 < rows ? _mm512_loadu_ps(flat + (row + 1) * width + c) : _mm512_setzero_ps();
        store_pairs(_mm512_loadu_ps(flat + row * width + c), odd, pairs + row / 2 * width + c);
      }
    }
  }
#endif
}

/// Puts the weights of keys j and j + 1 in the lanes from `lane` on where sum_over_keys reads them; `lines` may be those the weights came
/// from. For an odd count the last `odd` is zero.
template <class T, class C>
LORIKEET_INLINE void put_key_weights(bool pairs, Vector<C> even, Vector<C> odd, bool whole, int64_t j, int64_t lanes, C* lines) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (pairs) return store_pairs((__m512)even, (__m512)odd, reinterpret_cast<uint32_t*>(lines) + j / 2 * lanes);
  }
#endif
  (void)pairs;
  store_vector(lines + j * lanes, even);
  if (whole) store_vector(lines + (j + 1) * lanes, odd);
}

}  // namespace lorikeet::LORIKEET_LEVEL
