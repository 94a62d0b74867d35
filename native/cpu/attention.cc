#include "cpu/attention-tile.h"
#include "cpu/level.h"

// Forward: a tile goes through its key blocks once, keeping for each row the largest score m, l = Σ e^(score - m) and the weighted sum of
// values, which are scaled down when m grows.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class C>
struct RunningSoftmax {
  C* most;    // m
  C* sum;     // l
  C* shrink;  // factor of the values gathered so far
};

/// scores [count][lanes] become weights relative to the new maxima.
template <class C>
void add_block(int64_t count, int64_t lanes, C* __restrict__ scores, const RunningSoftmax<C>& state) {
  C* __restrict__ most = state.most;
  C* __restrict__ sum = state.sum;
  C* __restrict__ shrink = state.shrink;
  for (int64_t lane = 0; lane < lanes; ++lane) shrink[lane] = most[lane];
  for (int64_t j = 0; j < count; ++j) {
    const C* line = scores + j * lanes;
    for (int64_t lane = 0; lane < lanes; ++lane) most[lane] = line[lane] > most[lane] ? line[lane] : most[lane];
  }
  const C none = -static_cast<C>(__builtin_inff());
  // A row that has seen no key yet has m = -infinity; 0 stands in for it, and all its weights are e^-infinity = 0.
  C reference[kTileRows], added[kTileRows];
  for (int64_t lane = 0; lane < lanes; ++lane) {
    reference[lane] = most[lane] == none ? C(0) : most[lane];
    added[lane] = C(0);
  }
  for (int64_t lane = 0; lane < lanes; ++lane) shrink[lane] = vexp(shrink[lane] - reference[lane]);
  for (int64_t j = 0; j < count; ++j) {
    C* __restrict__ line = scores + j * lanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      C weight = vexp(line[lane] - reference[lane]);
      line[lane] = weight;
      added[lane] += weight;
    }
  }
  for (int64_t lane = 0; lane < lanes; ++lane) sum[lane] = fma(sum[lane], shrink[lane], added[lane]);
}

template <class T>
void forward_tile(const AttentionArgs& a, const Tile& tile) {
  using C = compute_t<T>;
  int64_t lanes = padded<C>(tile.rows), width = padded<C>(a.width);
  Scratch scratch((a.width * lanes + kBlockKeys * lanes + lanes * width + key_room_size(width, lanes) + 3 * lanes) *
                  static_cast<int64_t>(sizeof(C)));
  C* turned = scratch.as<C>();
  C* scores = turned + a.width * lanes;
  C* gathered = scores + kBlockKeys * lanes;
  C* room = gathered + lanes * width;
  C* rest = room + key_room_size(width, lanes);
  RunningSoftmax<C> state{rest, rest + lanes, rest + 2 * lanes};
  gather_rows<T, C>(tile, static_cast<const T*>(a.q), a.q_strides, a.width, width, lanes, nullptr, turned);
  for (int64_t i = 0; i < lanes * width; ++i) gathered[i] = C(0);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    state.most[lane] = -static_cast<C>(__builtin_inff());
    state.sum[lane] = C(0);
  }
  const T* keys = static_cast<const T*>(a.k) + tile.batch * a.k_strides[0] + tile.group * a.k_strides[2];
  const T* values = static_cast<const T*>(a.v) + tile.batch * a.v_strides[0] + tile.group * a.v_strides[2];
  for (int64_t key = tile.all_from / kBlockKeys * kBlockKeys; key < tile.all_to; key += kBlockKeys) {
    int64_t count = tile.all_to - key < kBlockKeys ? tile.all_to - key : kBlockKeys;
    if (!documents_meet(a, tile, key, count)) continue;
    score_products<T, C>(keys + key * a.k_strides[1], a.k_strides[1], count, a.width, lanes, turned, room, scores);
    finish_scores<C>(a, tile, key, count, lanes, scores, nullptr);
    add_block<C>(count, lanes, scores, state);
    for (int64_t row = 0; row < tile.rows; ++row) {
      if (state.shrink[row] == C(1)) continue;
      for (int64_t c = 0; c < width; ++c) gathered[row * width + c] *= state.shrink[row];
    }
    sum_over_keys<T, C>(tile, scores, lanes, values + key * a.v_strides[1], a.v_strides[1], count, a.width, room, gathered);
  }
  for (int64_t row = 0; row < tile.rows; ++row) {
    int64_t t = tile.query(row), h = tile.head(row);
    C sum = state.sum[row];
    C inverse = sum == C(0) ? C(0) : C(1) / sum;
    T* out = static_cast<T*>(a.out) + ((tile.batch * a.queries + t) * a.heads + h) * a.width;
    for (int64_t c = 0; c < a.width; ++c) store(out + c, gathered[row * width + c] * inverse);
    if (a.lse == nullptr) continue;
    static_cast<C*>(a.lse)[(tile.batch * a.heads + h) * a.queries + t] =
        sum == C(0) ? -static_cast<C>(__builtin_inff()) : state.most[row] + vlog(sum);
  }
}

void attention_fwd(const AttentionArgs& a) {
  int64_t tiles = (a.queries * (a.heads / a.groups) + kTileRows - 1) / kTileRows;
  parallel_for(a.batch * a.groups * tiles, [&](int64_t task) {
    Tile tile;
    // The last tiles of a causal sequence see most keys: they start first.
    describe_tile(a, task / tiles / a.groups, task / tiles % a.groups, tiles - 1 - task % tiles, tile);
    LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward_tile<T>(a, tile)))
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(attention_fwd_kernel, lorikeet::LORIKEET_LEVEL::attention_fwd)
