#pragma once

#include "cpu/integers.h"
#include "cpu/vector-math.h"
#include "ops/attention.h"

// A tile is up to kTileRows query rows of one batch row and key head, counted as (query, head in the group), so that the heads of a group
// share the keys they read. Scores of a tile against a block of keys stand as [key][row]: a register holds several query rows, and
// everything about a row happens in its own lane. Key blocks begin at multiples of kBlockKeys and are taken in order; a block that a row
// does not see leaves the row unchanged, so blocks that no row of the tile sees are left out.

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kTileRows = 64, kBlockKeys = 64;

/// Keys that some rows may see, and those that all of them see.
struct SeenKeys {
  int64_t all_from, all_to, common_from, common_to;
};

struct Tile : SeenKeys {
  int64_t batch, group, rows;
  int32_t query[kTileRows], head[kTileRows];
  int32_t from[kTileRows], to[kTileRows];  // row i sees keys [from, to), of its document; neither is less than those of the row before
  int32_t document[kTileRows];
  int32_t least_document, most_document;
  bool every_key;  // no key mask, no documents

  /// Element offset of a row in a tensor with strides of batch, time, head.
  LORIKEET_INLINE int64_t offset(int64_t row, const int64_t (&strides)[3]) const {
    return batch * strides[0] + query[row] * strides[1] + head[row] * strides[2];
  }
  /// Place of a row in lse [B, H, T].
  LORIKEET_INLINE int64_t lse_place(int64_t row, const AttentionArgs& a) const {
    return (batch * a.heads + head[row]) * a.queries + query[row];
  }
};

LORIKEET_INLINE int64_t tiles_of(const AttentionArgs& a) { return (a.queries * (a.heads / a.groups) + kTileRows - 1) / kTileRows; }

/// Keys that queries [first, last] see, documents and masks aside. What a query sees begins and ends no earlier than what the one before
/// it sees.
LORIKEET_INLINE SeenKeys seen_keys(const AttentionArgs& a, int64_t batch, int64_t first, int64_t last) {
  constexpr int64_t kFar = int64_t{1} << 40;  // beyond any key
  const int64_t limit = a.key_lengths != nullptr ? a.key_lengths[batch] : a.keys;
  const int64_t offset = a.query_offsets != nullptr ? a.query_offsets[batch] : a.keys - a.queries;
  const int64_t window = a.window > 0 ? smaller(a.window, kFar) : kFar, ahead = a.causal ? 1 : window;
  const auto from = [&](int64_t query) { return within(offset + query - window + 1, 0, limit); };
  const auto to = [&](int64_t query) { return within(offset + query + ahead, 0, limit); };
  return {from(first), to(last), from(last), to(first)};
}

/// The documents of the rows.
LORIKEET_INLINE void describe_documents(const AttentionArgs& a, Tile& tile) {
  tile.least_document = INT32_MAX;
  tile.most_document = INT32_MIN;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const int32_t document = a.documents[tile.batch * a.keys + tile.query[row]];
    tile.document[row] = document;
    tile.least_document = document < tile.least_document ? document : tile.least_document;
    tile.most_document = document > tile.most_document ? document : tile.most_document;
  }
}

LORIKEET_INLINE void describe_tile(const AttentionArgs& a, int64_t batch, int64_t group, int64_t index, Tile& tile) {
  const int64_t heads = a.heads / a.groups, first = index * kTileRows;
  tile.batch = batch;
  tile.group = group;
  tile.rows = smaller(a.queries * heads - first, kTileRows);
  tile.every_key = a.key_mask == nullptr && a.documents == nullptr;
  static_cast<SeenKeys&>(tile) = seen_keys(a, batch, first / heads, (first + tile.rows - 1) / heads);
  auto query = static_cast<int32_t>(first / heads), head = static_cast<int32_t>(first % heads);
  for (int64_t row = 0; row < tile.rows; ++row) {
    tile.query[row] = query;
    tile.head[row] = static_cast<int32_t>(group * heads) + head;
    const bool next = ++head == heads;
    head = next ? 0 : head;
    query += next;
  }
  for (int64_t row = 0; row < tile.rows; ++row) {
    const SeenKeys seen = seen_keys(a, batch, tile.query[row], tile.query[row]);
    tile.from[row] = static_cast<int32_t>(seen.all_from);
    tile.to[row] = static_cast<int32_t>(seen.all_to);
  }
  if (a.documents != nullptr) describe_documents(a, tile);
  for (int64_t row = tile.rows; row < kTileRows; ++row) tile.from[row] = tile.to[row] = tile.document[row] = 0;
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

/// Calls body(key, count) for the key blocks that a row of the tile may see.
template <class Body>
LORIKEET_INLINE void for_each_key_block(const AttentionArgs& a, const Tile& tile, const Body& body) {
  for (int64_t key = tile.all_from / kBlockKeys * kBlockKeys; key < tile.all_to; key += kBlockKeys) {
    int64_t count = tile.all_to - key < kBlockKeys ? tile.all_to - key : kBlockKeys;
    if (documents_meet(a, tile, key, count)) body(key, count);
  }
}

/// -infinity in the scores [count][lanes] of keys that a row does not see.
template <class C>
void hide_scores(const AttentionArgs& a, const Tile& tile, int64_t key, int64_t count, int64_t lanes, C* __restrict__ scores) {
  if (tile.every_key && tile.common_from <= key && tile.common_to >= key + count) return;
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

/// What makes exponents of 2 of the scores that finish_scores leaves. Scaling by a positive number is left to it.
template <class C>
LORIKEET_INLINE C exponent_factor(const AttentionArgs& a) {
  constexpr double kLog2E = 1.4426950408889634074;
  return static_cast<C>(a.softcap > 0 || !(a.scale > 0) ? kLog2E : a.scale * kLog2E);
}

/// Scores [count][lanes] from dot products, in place: capped, -infinity where a row does not see a key, and scaled as exponent_factor
/// says. `slope`, where given, gets the derivative of the cap.
template <class C>
void finish_scores(const AttentionArgs& a, const Tile& tile, int64_t key, int64_t count, int64_t lanes, C* __restrict__ scores,
                   C* __restrict__ slope) {
  if (a.softcap > 0) {
    C cap = static_cast<C>(a.softcap), inverse = static_cast<C>(a.scale / a.softcap);
    for (int64_t i = 0; i < count * lanes; ++i) {
      C t = vtanh(scores[i] * inverse);
      scores[i] = cap * t;
      if (slope != nullptr) slope[i] = C(1) - t * t;
    }
  } else if (!(a.scale > 0)) {
    C scale = static_cast<C>(a.scale);
    for (int64_t i = 0; i < count * lanes; ++i) scores[i] *= scale;
  }
  hide_scores<C>(a, tile, key, count, lanes, scores);
}

}  // namespace lorikeet::LORIKEET_LEVEL
