#pragma once

#include "cpu/pair-product.h"
#include "cpu/tile-product.h"
#include "cpu/vector-math.h"
#include "ops/attention.h"

// A tile is up to kTileRows query rows of one batch row and key head, counted as (query, head in the group), so that the heads of a group
// share the keys they read. Scores of a tile against a block of keys stand as [key][row]: a register holds several query rows, and
// everything about a row happens in its own lane. Key blocks begin at multiples of kBlockKeys and are taken in order; a block that a row
// does not see leaves the row unchanged, so blocks that no row of the tile sees are left out.

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kTileRows = 64, kBlockKeys = 64;

struct Tile {
  int64_t batch, group, first, rows;
  int64_t heads;                           // heads of the group
  int32_t from[kTileRows], to[kTileRows];  // row i sees keys [from, to), of its document
  int32_t document[kTileRows];
  int64_t all_from, all_to;  // union over the rows
  int32_t least_document, most_document;
  bool every_key;  // no key mask, no documents

  LORIKEET_INLINE int64_t query(int64_t row) const { return (first + row) / heads; }
  LORIKEET_INLINE int64_t head(int64_t row) const { return group * heads + (first + row) % heads; }
};

LORIKEET_INLINE int32_t clamped(int64_t value, int64_t limit) {
  return static_cast<int32_t>(value < 0 ? 0 : (value > limit ? limit : value));
}

LORIKEET_INLINE void describe_tile(const AttentionArgs& a, int64_t batch, int64_t group, int64_t index, Tile& tile) {
  tile.batch = batch;
  tile.group = group;
  tile.heads = a.heads / a.groups;
  tile.first = index * kTileRows;
  int64_t rest = a.queries * tile.heads - tile.first;
  tile.rows = rest < kTileRows ? rest : kTileRows;
  tile.every_key = a.key_mask == nullptr && a.documents == nullptr;
  int64_t limit = a.key_lengths != nullptr ? a.key_lengths[batch] : a.keys;
  int64_t offset = a.query_offsets != nullptr ? a.query_offsets[batch] : a.keys - a.queries;
  tile.all_from = limit;
  tile.all_to = 0;
  tile.least_document = INT32_MAX;
  tile.most_document = INT32_MIN;
  for (int64_t row = 0; row < kTileRows; ++row) {
    if (row >= tile.rows) {
      tile.from[row] = tile.to[row] = tile.document[row] = 0;
      continue;
    }
    int64_t position = offset + tile.query(row);
    int64_t from = a.window > 0 ? position - a.window + 1 : 0;
    int64_t to = a.causal ? position + 1 : (a.window > 0 ? position + a.window : limit);
    tile.from[row] = clamped(from, limit);
    tile.to[row] = clamped(to, limit);
    if (tile.from[row] < tile.to[row]) {
      tile.all_from = tile.from[row] < tile.all_from ? tile.from[row] : tile.all_from;
      tile.all_to = tile.to[row] > tile.all_to ? tile.to[row] : tile.all_to;
    }
    if (a.documents != nullptr) {
      int32_t document = a.documents[batch * a.keys + tile.query(row)];
      tile.document[row] = document;
      tile.least_document = document < tile.least_document ? document : tile.least_document;
      tile.most_document = document > tile.most_document ? document : tile.most_document;
    }
  }
}

/// False when the documents of keys [key, key + count) all lie beside those of the tile.
LORIKEET_INLINE bool documents_meet(const AttentionArgs& a, const Tile& tile, int64_t key, int64_t count) {
  if (a.documents == nullptr) return true;
  const int32_t* documents = a.documents + tile.batch * a.keys + key;
  int32_t least = INT32_MAX, most = INT32_MIN;
  for (int64_t j = 0; j < count; ++j) {
    least = documents[j] < least ? documents[j] : least;
    most = documents[j] > most ? documents[j] : most;
  }
  return least <= tile.most_document && most >= tile.least_document;
}

/// Scores [count][lanes] from dot products, in place: scaled, capped, -infinity where a row does not see a key. `slope`, where given, gets
/// the derivative of the cap.
template <class C>
void finish_scores(const AttentionArgs& a, const Tile& tile, int64_t key, int64_t count, int64_t lanes, C* __restrict__ scores,
                   C* __restrict__ slope) {
  C scale = static_cast<C>(a.scale);
  if (a.softcap > 0) {
    C cap = static_cast<C>(a.softcap), inverse = static_cast<C>(a.scale / a.softcap);
    for (int64_t i = 0; i < count * lanes; ++i) {
      C t = vtanh(scores[i] * inverse);
      scores[i] = cap * t;
      if (slope != nullptr) slope[i] = C(1) - t * t;
    }
  } else {
    for (int64_t i = 0; i < count * lanes; ++i) scores[i] *= scale;
  }
  bool all = tile.every_key;
  for (int64_t row = 0; row < tile.rows && all; ++row) all = tile.from[row] <= key && tile.to[row] >= key + count;
  if (all) return;
  const C hidden = -static_cast<C>(__builtin_inff());
  for (int64_t j = 0; j < count; ++j) {
    C* line = scores + j * lanes;
    int32_t s = static_cast<int32_t>(key + j);
    int64_t place = tile.batch * a.keys + s;
    if (a.key_mask != nullptr && a.key_mask[place] == 0) {
      for (int64_t lane = 0; lane < lanes; ++lane) line[lane] = hidden;
      continue;
    }
    for (int64_t lane = 0; lane < lanes; ++lane) line[lane] = s >= tile.from[lane] && s < tile.to[lane] ? line[lane] : hidden;
    if (a.documents != nullptr) {
      int32_t document = a.documents[place];
      for (int64_t lane = 0; lane < lanes; ++lane) line[lane] = tile.document[lane] == document ? line[lane] : hidden;
    }
  }
}

/// Rows of a matrix as C with zeros up to `width`: the memory itself where it has that form, else `room` [count][width] filled from it.
template <class T, class C>
LORIKEET_INLINE const C* rows_as(const T* from, int64_t stride, int64_t count, int64_t columns, int64_t width, C* __restrict__ room,
                                 int64_t& out_stride) {
  if constexpr (__is_same(T, C)) {
    if (columns == width) {
      out_stride = stride;
      return from;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < columns; ++c) room[i * width + c] = load(from + i * stride + c);
    for (int64_t c = columns; c < width; ++c) room[i * width + c] = C(0);
  }
  out_stride = width;
  return room;
}

/// Whether products are summed in bf16 pairs. Scores are products of what was stored in bf16; weights and their gradients are rounded to
/// it.
template <class T>
LORIKEET_INLINE bool in_pairs(int64_t columns) {
  return kHasPairs && __is_same(T, BFloat16) && columns % 2 == 0;
}

/// The tile's rows of a bf16 tensor as pairs of columns, [columns / 2][lanes] with zeros in the lanes without a row.
template <class T>
LORIKEET_INLINE void gather_pairs(const Tile& tile, const T* base, const int64_t (&strides)[3], int64_t columns, int64_t lanes,
                                  uint32_t* __restrict__ turned) {
  for (int64_t row = 0; row < lanes; ++row) {
    const T* from = row < tile.rows ? base + tile.batch * strides[0] + tile.query(row) * strides[1] + tile.head(row) * strides[2] : nullptr;
    for (int64_t c = 0; c < columns; c += 2) {
      uint32_t pair = 0;
      if (from != nullptr) __builtin_memcpy(&pair, from + c, sizeof pair);
      turned[c / 2 * lanes + row] = pair;
    }
  }
}

/// scores [count][lanes] = the products of `count` rows of keys (or values) and the rows of the tile. `turned` is what gather_rows or, in
/// pairs, gather_pairs made; `room` holds the rows as C where they need another form.
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
  const C* block = rows_as<T, C>(rows, stride, count, columns, padded<C>(columns), room, room_stride);
  product<C>(count, lanes, columns, {block, room_stride, 1}, turned, lanes, scores, lanes, false);
}

/// Elements of the room that sum_over_keys needs.
LORIKEET_INLINE int64_t key_room_size(int64_t width, int64_t lanes) { return kBlockKeys * width + kBlockKeys / 2 * lanes; }

/// out [rows of the tile][width] += Σ over `count` keys of weights [key][lanes] times rows [key][columns].
template <class T, class C>
LORIKEET_INLINE void sum_over_keys(const Tile& tile, const C* weights, int64_t lanes, const T* rows, int64_t stride, int64_t count,
                                   int64_t columns, C* room, C* out) {
  const int64_t width = padded<C>(columns);
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (in_pairs<T>(columns)) {
      auto* right = reinterpret_cast<uint32_t*>(room);
      uint32_t* left = right + kBlockKeys / 2 * width;
      for (int64_t j = 0; j < count; j += 2) {
        const bool whole = j + 1 < count;
        pair_rows(rows + j * stride, whole ? rows + (j + 1) * stride : nullptr, columns, width, right + j / 2 * width);
        pair_lines(weights + j * lanes, whole ? weights + (j + 1) * lanes : nullptr, lanes, left + j / 2 * lanes);
      }
      return pair_product(tile.rows, width, (count + 1) / 2, {reinterpret_cast<const BFloat16*>(left), 2, 2 * lanes}, right, width, out,
                          width, true);
    }
  }
#endif
  int64_t room_stride;
  const C* block = rows_as<T, C>(rows, stride, count, columns, width, room, room_stride);
  product<C>(tile.rows, width, count, {weights, 1, lanes}, block, room_stride, out, width, true);
}

/// out [count][width] += Σ over the rows of the tile of weights [key][lanes] times `flat` [row][width]. In pairs, `flat` is what
/// pair_flat_rows made of it, and `room` holds [count][lanes] bf16.
template <class T, class C>
LORIKEET_INLINE void sum_over_tile(const Tile& tile, const C* weights, int64_t lanes, const C* flat, int64_t count, int64_t columns,
                                   C* room, C* out) {
  const int64_t width = padded<C>(columns);
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (in_pairs<T>(columns)) {
      auto* left = reinterpret_cast<BFloat16*>(room);
      narrow(weights, count * lanes, left);
      return pair_product(count, width, (tile.rows + 1) / 2, {left, lanes, 2}, reinterpret_cast<const uint32_t*>(flat), width, out, width,
                          true);
    }
  }
#endif
  product<C>(count, width, tile.rows, {weights, lanes, 1}, flat, width, out, width, true);
}

/// Where products are in pairs: rows [rows][width] of a tile become pairs of rows, in place.
template <class T, class C>
LORIKEET_INLINE void pair_flat_rows(int64_t rows, int64_t columns, C* flat) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    if (!in_pairs<T>(columns)) return;
    const int64_t width = padded<C>(columns);
    auto* pairs = reinterpret_cast<uint32_t*>(flat);
    for (int64_t row = 0; row < rows; row += 2) {
      pair_lines(flat + row * width, row + 1 < rows ? flat + (row + 1) * width : nullptr, width, pairs + row / 2 * width);
    }
  }
#endif
}

/// The tile's rows of a tensor (strides of batch, time, head): `flat` [rows][width] with zeros up to width, where not null, and `turned`
/// [columns][lanes] with zeros in the lanes without a row; in pairs as gather_pairs makes them.
template <class T, class C>
LORIKEET_INLINE void gather_rows(const Tile& tile, const T* base, const int64_t (&strides)[3], int64_t columns, int64_t width,
                                 int64_t lanes, C* __restrict__ flat, C* __restrict__ turned) {
  const bool pairs = in_pairs<T>(columns);
  if (pairs) gather_pairs<T>(tile, base, strides, columns, lanes, reinterpret_cast<uint32_t*>(turned));
  for (int64_t row = 0; row < lanes; ++row) {
    if (row >= tile.rows) {
      for (int64_t c = 0; c < columns && !pairs; ++c) turned[c * lanes + row] = C(0);
      continue;
    }
    const T* from = base + tile.batch * strides[0] + tile.query(row) * strides[1] + tile.head(row) * strides[2];
    for (int64_t c = 0; c < columns && !pairs; ++c) turned[c * lanes + row] = load(from + c);
    if (flat == nullptr) continue;
    for (int64_t c = 0; c < columns; ++c) flat[row * width + c] = load(from + c);
    for (int64_t c = columns; c < width; ++c) flat[row * width + c] = C(0);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
