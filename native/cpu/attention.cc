#include "cpu/attention-few-parts.h"
#include "cpu/attention-narrow.h"
#include "cpu/attention-products.h"
#include "cpu/level.h"
#include "cpu/vector-exp.h"

// Forward: a tile goes through its key blocks once, keeping for each row the largest score m, l = Σ 2^(score - m) and the weighted sum of
// values, which are scaled down when m grows. Exponents are of base 2: `factor` makes them of scores.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

inline constexpr int64_t kFewTileRows = 16;

template <class C>
struct RunningSoftmax {
  C* most;    // m
  C* sum;     // l
  C* shrink;  // factor of the values gathered so far
};

/// The largest of `count` scores in the lanes of one vector.
template <class C>
LORIKEET_INLINE Vector<C> largest(const C* scores, int64_t count, int64_t lanes) {
  Vector<C> even = load_vector(scores), odd = even;
  int64_t j = 1;
  for (; j + 2 <= count; j += 2) {
    odd = larger(load_vector(scores + j * lanes), odd);
    even = larger(load_vector(scores + (j + 1) * lanes), even);
  }
  if (j < count) odd = larger(load_vector(scores + j * lanes), odd);
  return larger(even, odd);
}

/// scores [count][lanes] become weights relative to the new maxima, as sum_over_keys reads them. True when a row has to be scaled down.
template <class T, class C>
bool add_block(bool pairs, C factor_of_scores, int64_t count, int64_t lanes, C* scores, const RunningSoftmax<C>& state) {
  constexpr int kDegree = __is_same(T, BFloat16) ? 4 : 6;
  const Vector<C> factor = splat(factor_of_scores), none = splat(-static_cast<C>(__builtin_inff()));
  bool shrinks = false;
  for (int64_t lane = 0; lane < lanes; lane += kVectorWidth<C>) {
    C* lines = scores + lane;
    const Vector<C> before = load_vector(state.most + lane), most = larger(largest(lines, count, lanes) * factor, before);
    // A row that has seen no key yet has m = -infinity; 0 stands in for it, and all its weights are 0.
    const Vector<C> reference = most == none ? Vector<C>{} : most, shrink = exp2_of<kDegree>(before - reference);
    Vector<C> even_sum{}, odd_sum{};
    int64_t j = 0;
    for (; j + 2 <= count; j += 2) {
      const Vector<C> even = exp2_of<kDegree>(fma(load_vector(lines + j * lanes), factor, -reference));
      const Vector<C> odd = exp2_of<kDegree>(fma(load_vector(lines + (j + 1) * lanes), factor, -reference));
      even_sum += even;
      odd_sum += odd;
      put_key_weights<T, C>(pairs, even, odd, true, j, lanes, lines);
    }
    if (j < count) {
      const Vector<C> even = exp2_of<kDegree>(fma(load_vector(lines + j * lanes), factor, -reference));
      even_sum += even;
      put_key_weights<T, C>(pairs, even, Vector<C>{}, false, j, lanes, lines);
    }
    store_vector(state.most + lane, most);
    store_vector(state.sum + lane, fma(load_vector(state.sum + lane), shrink, even_sum + odd_sum));
    store_vector(state.shrink + lane, shrink);
    for (int i = 0; i < kVectorWidth<C>; ++i) shrinks |= state.shrink[lane + i] != C(1);
  }
  return shrinks;
}

template <class C>
void scale_lanes(int64_t columns, int64_t lanes, const C* factors, C* gathered) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t lane = 0; lane < lanes; lane += kVectorWidth<C>) {
      C* at = gathered + c * lanes + lane;
      store_vector(at, load_vector(at) * load_vector(factors + lane));
    }
  }
}

/// Asks for `count` rows, for tiles with so few query rows that waiting for memory takes longer than the products do.
template <class T>
LORIKEET_INLINE void prefetch_rows(const T* rows, int64_t stride, int64_t count, int64_t columns) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t c = 0; c < columns; c += kLine) __builtin_prefetch(rows + j * stride + c);
  }
}

template <class T>
void forward_tile(const AttentionArgs& a, const Tile& tile) {
  using C = compute_t<T>;
  const int64_t lanes = padded<C>(tile.rows);
  const bool pairs = in_pairs<T>(a.width);
  Scratch scratch((2 * a.width * lanes + kBlockKeys * lanes + key_room_size<C>(a.width) + 3 * lanes) * static_cast<int64_t>(sizeof(C)));
  C* turned = scratch.as<C>();
  C* scores = turned + a.width * lanes;
  C* gathered = scores + kBlockKeys * lanes;
  C* rest = gathered + a.width * lanes;
  C* room = rest + 3 * lanes;
  RunningSoftmax<C> state{rest, rest + lanes, rest + 2 * lanes};
  C* flat = __is_same(T, C) || pairs ? nullptr : room;
  gather_rows<T, C>(tile, static_cast<const T*>(a.q), a.q_strides, a.width, padded<C>(a.width), lanes, flat, turned);
  for (int64_t i = 0; i < a.width * lanes; ++i) gathered[i] = C(0);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    state.most[lane] = -static_cast<C>(__builtin_inff());
    state.sum[lane] = C(0);
  }
  const T* keys = static_cast<const T*>(a.k) + tile.batch * a.k_strides[0] + tile.group * a.k_strides[2];
  const T* values = static_cast<const T*>(a.v) + tile.batch * a.v_strides[0] + tile.group * a.v_strides[2];
  for_each_key_block(a, tile, [&](int64_t key, int64_t count) {
    const int64_t next = key + kBlockKeys, rest = tile.all_to - next;
    if (tile.rows <= kFewTileRows) {
      prefetch_rows(values + key * a.v_strides[1], a.v_strides[1], count, a.width);
      prefetch_rows(keys + next * a.k_strides[1], a.k_strides[1], rest < kBlockKeys ? rest : kBlockKeys, a.width);
    }
    score_products<T, C>(keys + key * a.k_strides[1], a.k_strides[1], count, a.width, lanes, turned, room, scores);
    finish_scores<C>(a, tile, key, count, lanes, scores, nullptr);
    if (add_block<T, C>(pairs, exponent_factor<C>(a), count, lanes, scores, state)) {
      scale_lanes<C>(a.width, lanes, state.shrink, gathered);
    }
    sum_over_keys<T, C>(scores, lanes, values + key * a.v_strides[1], a.v_strides[1], count, a.width, room, gathered);
  });
  constexpr C kLn2 = static_cast<C>(0.69314718055994530942);
  for (int64_t row = 0; row < tile.rows; ++row) {
    C sum = state.sum[row];
    if (a.lse != nullptr) {
      static_cast<C*>(a.lse)[tile.lse_place(row, a)] =
          sum == C(0) ? -static_cast<C>(__builtin_inff()) : fma(state.most[row], kLn2, vlog(sum));
    }
    state.shrink[row] = sum == C(0) ? C(0) : C(1) / sum;
  }
  const int64_t strides[3] = {a.queries * a.heads * a.width, a.heads * a.width, a.width};
  scatter_rows<T, C>(tile, gathered, a.width, lanes, state.shrink, static_cast<T*>(a.out), strides);
}

template <class T>
void forward(const AttentionArgs& a, const Tile& tile) {
#if defined(__AVX512F__)
  if (is_narrow<T>(a)) return narrow_forward(a, tile);
#endif
  if constexpr (sizeof(compute_t<T>) == sizeof(float)) {
    if (is_few<T>(a, tile)) return few_queries<T>(a, tile);
  }
  forward_tile<T>(a, tile);
}

/// Runs the attention of few rows over many keys in parts where that keeps more threads busy.
bool shares_few_rows(const AttentionArgs& a) {
  if (a.batch * a.groups == 0 || a.queries == 0) return false;
  Tile first;
  describe_tile(a, 0, 0, 0, first);
  LORIKEET_FLOAT_SWITCH(
      a.dtype, T, if constexpr (sizeof(compute_t<T>) == sizeof(float)) {
        const int64_t parts = parts_of_few<T>(a, first);
        if (parts > 1) for_few_rows(first.rows, [&](auto count) { few_in_parts<T, count.value>(a, parts); });
        return parts > 1;
      })
  return false;
}

void attention_fwd(const AttentionArgs& a) {
  int64_t tiles = tiles_of(a);
  if (shares_few_rows(a)) return;
  parallel_for(a.batch * a.groups * tiles, [&](int64_t task) {
    Tile tile;
    // The last tiles of a causal sequence see most keys: they start first. Those of one head follow each other, since they share keys.
    describe_tile(a, task / tiles / a.groups, task / tiles % a.groups, tiles - 1 - task % tiles, tile);
    LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward<T>(a, tile)))
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(attention_fwd_kernel, lorikeet::LORIKEET_LEVEL::attention_fwd)
