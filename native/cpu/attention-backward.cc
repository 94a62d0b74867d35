#include "cpu/attention-tile.h"
#include "cpu/lanes.h"
#include "cpu/level.h"

// Backward: a tile goes through its key blocks again, with the weights recomputed from lse:
//   p = e^(score - lse), dv += pᵀ dout, dp = dout vᵀ, ds = scale · p (dp - delta), delta = Σ dout · out, dq += ds k, dk += dsᵀ q
// The tiles of a (batch row, key head) are dealt to a few slices; a slice sums dk and dv over its tiles in order, and the slices are added
// in order. How many there are follows from the shape alone, never from batch or threads.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

int64_t slices_of(const AttentionArgs& a) {
  int64_t tiles = (a.queries * (a.heads / a.groups) + kTileRows - 1) / kTileRows;
  int64_t wished = a.groups >= 8 ? 1 : (8 + a.groups - 1) / a.groups;
  return tiles < wished ? (tiles > 0 ? tiles : 1) : wished;
}

/// Sums of one slice, [keys][width] each; null where not wanted.
template <class C>
struct KeySums {
  C* dk;
  C* dv;
};

/// Room for what one tile needs, carved from one scratch.
template <class C>
struct Room {
  C *q, *q_turned, *dout, *dout_turned, *scores, *dscores, *slope, *dq, *rows, *lse, *delta;

  static int64_t size(int64_t columns, int64_t width) {
    return (2 * columns * kTileRows + 3 * kTileRows * width + 3 * kBlockKeys * kTileRows + key_room_size(width, kTileRows) +
            2 * kTileRows) *
           static_cast<int64_t>(sizeof(C));
  }
  Room(C* memory, int64_t columns, int64_t width) {
    auto take = [&](int64_t n) {
      C* part = memory;
      memory += n;
      return part;
    };
    q = take(kTileRows * width);
    dout = take(kTileRows * width);
    dq = take(kTileRows * width);
    rows = take(key_room_size(width, kTileRows));
    scores = take(kBlockKeys * kTileRows);
    dscores = take(kBlockKeys * kTileRows);
    slope = take(kBlockKeys * kTileRows);
    lse = take(kTileRows);
    delta = take(kTileRows);
    q_turned = take(columns * kTileRows);
    dout_turned = take(columns * kTileRows);
  }
};

template <class C>
void weights_from(const C* __restrict__ lse, int64_t count, int64_t lanes, C* __restrict__ scores) {
  const C hidden = -static_cast<C>(__builtin_inff());
  for (int64_t j = 0; j < count; ++j) {
    C* line = scores + j * lanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      C weight = vexp(line[lane] - lse[lane]);
      line[lane] = line[lane] == hidden ? C(0) : weight;
    }
  }
}

template <class C>
void score_gradients(const C* __restrict__ weights, const C* __restrict__ delta, C scale, const C* __restrict__ slope, int64_t count,
                     int64_t lanes, C* __restrict__ dscores) {
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t i = j * lanes + lane;
      dscores[i] = weights[i] * (dscores[i] - delta[lane]) * scale;
    }
  }
  if (slope == nullptr) return;
  for (int64_t i = 0; i < count * lanes; ++i) dscores[i] *= slope[i];
}

template <class T, class C>
void backward_tile(const AttentionArgs& a, const Tile& tile, const Room<C>& room, const KeySums<C>& sums) {
  int64_t lanes = padded<C>(tile.rows), width = padded<C>(a.width);
  const int64_t row_strides[3] = {a.queries * a.heads * a.width, a.heads * a.width, a.width};
  gather_rows<T, C>(tile, static_cast<const T*>(a.q), a.q_strides, a.width, width, lanes, room.q, room.q_turned);
  gather_rows<T, C>(tile, static_cast<const T*>(a.dout), row_strides, a.width, width, lanes, room.dout, room.dout_turned);
  bool scores_wanted = a.dq != nullptr || sums.dk != nullptr;
  for (int64_t row = 0; row < lanes; ++row) {
    room.lse[row] = room.delta[row] = C(0);
    if (row >= tile.rows) continue;
    int64_t t = tile.query(row), h = tile.head(row);
    room.lse[row] = static_cast<const C*>(a.lse)[(tile.batch * a.heads + h) * a.queries + t];
    if (!scores_wanted) continue;
    const T* out = static_cast<const T*>(a.out) + ((tile.batch * a.queries + t) * a.heads + h) * a.width;
    const C* dout = room.dout + row * width;
    room.delta[row] = lane_sum<C>(a.width, [&](int64_t c) { return load(out + c) * dout[c]; });
  }
  pair_flat_rows<T, C>(tile.rows, a.width, room.q);
  pair_flat_rows<T, C>(tile.rows, a.width, room.dout);
  for (int64_t i = 0; i < tile.rows * width; ++i) room.dq[i] = C(0);
  C* slope = a.softcap > 0 ? room.slope : nullptr;
  const T* keys = static_cast<const T*>(a.k) + tile.batch * a.k_strides[0] + tile.group * a.k_strides[2];
  const T* values = static_cast<const T*>(a.v) + tile.batch * a.v_strides[0] + tile.group * a.v_strides[2];
  for (int64_t key = tile.all_from / kBlockKeys * kBlockKeys; key < tile.all_to; key += kBlockKeys) {
    int64_t count = tile.all_to - key < kBlockKeys ? tile.all_to - key : kBlockKeys;
    if (!documents_meet(a, tile, key, count)) continue;
    const T* key_rows = keys + key * a.k_strides[1];
    score_products<T, C>(key_rows, a.k_strides[1], count, a.width, lanes, room.q_turned, room.rows, room.scores);
    finish_scores<C>(a, tile, key, count, lanes, room.scores, slope);
    weights_from<C>(room.lse, count, lanes, room.scores);
    if (sums.dv != nullptr) {
      sum_over_tile<T, C>(tile, room.scores, lanes, room.dout, count, a.width, room.rows, sums.dv + key * width);
    }
    if (!scores_wanted) continue;
    score_products<T, C>(values + key * a.v_strides[1], a.v_strides[1], count, a.width, lanes, room.dout_turned, room.rows, room.dscores);
    score_gradients<C>(room.scores, room.delta, static_cast<C>(a.scale), slope, count, lanes, room.dscores);
    if (sums.dk != nullptr) {
      sum_over_tile<T, C>(tile, room.dscores, lanes, room.q, count, a.width, room.rows, sums.dk + key * width);
    }
    if (a.dq != nullptr) sum_over_keys<T, C>(tile, room.dscores, lanes, key_rows, a.k_strides[1], count, a.width, room.rows, room.dq);
  }
  if (a.dq == nullptr) return;
  for (int64_t row = 0; row < tile.rows; ++row) {
    T* dq = static_cast<T*>(a.dq) + tile.batch * row_strides[0] + tile.query(row) * row_strides[1] + tile.head(row) * row_strides[2];
    for (int64_t c = 0; c < a.width; ++c) store(dq + c, room.dq[row * width + c]);
  }
}

/// Adds the slices [slices][keys][width] of one head and writes column `group` of `out` [B, S, G, K].
template <class T, class C>
void add_slices(const AttentionArgs& a, int64_t batch, int64_t group, int64_t slices, int64_t stride, const C* sums, void* out) {
  int64_t width = padded<C>(a.width);
  for (int64_t s = 0; s < a.keys; ++s) {
    T* to = static_cast<T*>(out) + ((batch * a.keys + s) * a.groups + group) * a.width;
    for (int64_t c = 0; c < a.width; ++c) {
      C total = sums[s * width + c];
      for (int64_t slice = 1; slice < slices; ++slice) total += sums[slice * stride + s * width + c];
      store(to + c, total);
    }
  }
}

/// Batch rows whose sums are held at a time: as many as stay near this many bytes, one at least.
constexpr int64_t kSumBytes = 64 << 20;

template <class T>
void backward(const AttentionArgs& a) {
  using C = compute_t<T>;
  int64_t width = padded<C>(a.width), slices = slices_of(a), plane = a.keys * width;
  int64_t tiles = (a.queries * (a.heads / a.groups) + kTileRows - 1) / kTileRows;
  int64_t planes = (a.dk != nullptr) + (a.dv != nullptr);
  int64_t row_bytes = a.groups * slices * planes * plane * static_cast<int64_t>(sizeof(C));
  int64_t together = row_bytes > 0 && kSumBytes / row_bytes < a.batch ? kSumBytes / row_bytes : a.batch;
  together = together > 0 ? together : 1;
  Scratch scratch(together * row_bytes);
  C* memory = scratch.as<C>();
  for (int64_t first = 0; first < a.batch; first += together) {
    int64_t rows = a.batch - first < together ? a.batch - first : together;
    parallel_for(rows * a.groups * slices, [&](int64_t task) {
      int64_t slice = task % slices, group = task / slices % a.groups, batch = first + task / slices / a.groups;
      C* sums = memory + task * planes * plane;
      for (int64_t i = 0; i < planes * plane; ++i) sums[i] = C(0);
      KeySums<C> key_sums{a.dk != nullptr ? sums : nullptr, a.dv != nullptr ? sums + (planes - 1) * plane : nullptr};
      Scratch room_scratch(Room<C>::size(a.width, width));
      Room<C> room(room_scratch.as<C>(), a.width, width);
      Tile tile;
      for (int64_t index = slice; index < tiles; index += slices) {
        describe_tile(a, batch, group, index, tile);
        backward_tile<T, C>(a, tile, room, key_sums);
      }
    });
    parallel_for(rows * a.groups, [&](int64_t task) {
      const C* sums = memory + task * slices * planes * plane;
      int64_t batch = first + task / a.groups, group = task % a.groups;
      if (a.dk != nullptr) add_slices<T, C>(a, batch, group, slices, planes * plane, sums, a.dk);
      if (a.dv != nullptr) add_slices<T, C>(a, batch, group, slices, planes * plane, sums + (planes - 1) * plane, a.dv);
    });
  }
}

void attention_bwd(const AttentionArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(attention_bwd_kernel, lorikeet::LORIKEET_LEVEL::attention_bwd)
