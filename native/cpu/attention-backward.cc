#include "cpu/attention-narrow-backward.h"
#include "cpu/attention-products.h"
#include "cpu/level.h"
#include "cpu/vector-exp.h"

// Backward: a tile goes through its key blocks again, with the weights recomputed from lse:
//   p = e^(score - lse), dv += pᵀ dout, dp = dout vᵀ, ds = p (dp - delta), delta = Σ dout · out, dq += scale · ds k, dk += scale · dsᵀ q
// The tiles of a (batch row, key head) are dealt to a few slices; a slice sums dk and dv over its tiles in order, and the slices are added
// in order. How many there are follows from the shape alone, never from batch or threads.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

/// As many as make about eight tasks of the key heads of a batch row, an even number of them.
int64_t slices_of(const AttentionArgs& a) {
  int64_t tiles = tiles_of(a), wished = a.groups >= 8 ? 1 : (8 + a.groups - 1) / a.groups;
  if (wished * a.groups % 2 != 0) ++wished;
  return tiles < wished ? (tiles > 0 ? tiles : 1) : wished;
}

/// The `turn`-th tile of a slice: dealt to and fro, so that slices of a causal sequence weigh the same.
int64_t tile_of_slice(int64_t turn, int64_t slice, int64_t slices) { return turn * slices + (turn % 2 == 0 ? slice : slices - 1 - slice); }

/// Sums of one slice, [keys][width] each; null where not wanted.
template <class C>
struct KeySums {
  C* dk;
  C* dv;
};

/// Room for what one tile needs, carved from one scratch.
template <class C>
struct Room {
  C *q, *q_turned, *dout, *dout_turned, *scores, *dscores, *slope, *dq, *keys, *lse, *delta;
  BFloat16 *weights, *gradients;  // [key][lane], in pairs

  static int64_t size(int64_t columns, int64_t width) {
    return (3 * columns * kTileRows + 2 * kTileRows * width + 4 * kBlockKeys * kTileRows + key_room_size<C>(columns) + 2 * kTileRows) *
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
    keys = take(key_room_size<C>(columns));
    scores = take(kBlockKeys * kTileRows);
    dscores = take(kBlockKeys * kTileRows);
    slope = take(kBlockKeys * kTileRows);
    weights = reinterpret_cast<BFloat16*>(take(kBlockKeys * kTileRows));
    gradients = weights + kBlockKeys * kTileRows;
    lse = take(kTileRows);
    delta = take(kTileRows);
    q_turned = take(columns * kTileRows);
    dout_turned = take(columns * kTileRows);
    dq = take(columns * kTileRows);
  }
};

/// scores [count][lanes] become weights; in pairs, `narrow` gets them in bf16.
template <class T, class C>
void weights_from(bool pairs, C factor_of_scores, int64_t count, int64_t lanes, const Room<C>& room) {
  constexpr int kDegree = __is_same(T, BFloat16) ? 4 : 6;
  const Vector<C> factor = splat(factor_of_scores);
  for (int64_t lane = 0; lane < lanes; lane += kVectorWidth<C>) {
    const Vector<C> lse = load_vector(room.lse + lane);
    for (int64_t j = 0; j < count; ++j) {
      C* scores = room.scores + j * lanes + lane;
      const Vector<C> weight = exp2_of<kDegree>(fma(load_vector(scores), factor, -lse));
      store_vector(scores, weight);
      if constexpr (__is_same(C, float)) {
        if (pairs) store_stored(room.weights + j * lanes + lane, weight);
      }
    }
  }
}

/// dscores [count][lanes], the products of dout and values, become p (dp - delta), times the slope of the cap; without the scale, which
/// the sums get in the end. In pairs they stand as pairs of keys, and `gradients` gets them in rows.
template <class T, class C>
void score_gradients(bool pairs, bool slopes, int64_t count, int64_t lanes, const Room<C>& room) {
  for (int64_t lane = 0; lane < lanes; lane += kVectorWidth<C>) {
    const Vector<C> delta = load_vector(room.delta + lane);
    auto gradient = [&](int64_t j) {
      const int64_t at = j * lanes + lane;
      Vector<C> value = load_vector(room.scores + at) * (load_vector(room.dscores + at) - delta);
      if (slopes) value = value * load_vector(room.slope + at);
      if constexpr (__is_same(C, float)) {
        if (pairs) store_stored(room.gradients + at, value);
      }
      return value;
    };
    int64_t j = 0;
    for (; j + 2 <= count; j += 2) {
      const Vector<C> even = gradient(j), odd = gradient(j + 1);
      put_key_weights<T, C>(pairs, even, odd, true, j, lanes, room.dscores + lane);
    }
    if (j < count) put_key_weights<T, C>(pairs, gradient(j), Vector<C>{}, false, j, lanes, room.dscores + lane);
  }
}

/// What stands in the room for all key blocks: the tile's rows of q and dout in both forms, lse in base 2, delta, dq = 0.
template <class T, class C>
void prepare_tile(const AttentionArgs& a, const Tile& tile, const int64_t (&row_strides)[3], bool scores_wanted, const Room<C>& room) {
  const int64_t lanes = padded<C>(tile.rows), width = padded<C>(a.width);
  gather_rows<T, C>(tile, static_cast<const T*>(a.q), a.q_strides, a.width, width, lanes, room.q, room.q_turned);
  gather_rows<T, C>(tile, static_cast<const T*>(a.dout), row_strides, a.width, width, lanes, room.dout, room.dout_turned);
  constexpr C kLog2E = static_cast<C>(1.4426950408889634074), none = -static_cast<C>(__builtin_inff());
  for (int64_t row = 0; row < lanes; ++row) {
    room.lse[row] = room.delta[row] = C(0);
    if (row >= tile.rows) continue;
    const C lse = static_cast<const C*>(a.lse)[tile.lse_place(row, a)];
    room.lse[row] = lse == none ? C(0) : lse * kLog2E;
    if (!scores_wanted) continue;
    const T* out = static_cast<const T*>(a.out) + tile.offset(row, row_strides);
    Vector<C> products{};
    for_each_vector<T>(a.width, [&](int64_t c, int64_t count) {
      products = fma(load_stored(out + c, count), load_vector(room.dout + row * width + c), products);
    });
    for (int i = 0; i < kVectorWidth<C>; ++i) room.delta[row] += products[i];
  }
  pair_flat_rows<T, C>(tile.rows, a.width, room.q);
  pair_flat_rows<T, C>(tile.rows, a.width, room.dout);
  for (int64_t i = 0; i < a.width * lanes; ++i) room.dq[i] = C(0);
}

template <class T, class C>
void backward_tile(const AttentionArgs& a, const Tile& tile, const Room<C>& room, const KeySums<C>& sums) {
  const int64_t lanes = padded<C>(tile.rows), width = padded<C>(a.width);
  const int64_t row_strides[3] = {a.queries * a.heads * a.width, a.heads * a.width, a.width};
  const bool pairs = in_pairs<T>(a.width), scores_wanted = a.dq != nullptr || sums.dk != nullptr, slopes = a.softcap > 0;
  prepare_tile<T, C>(a, tile, row_strides, scores_wanted, room);
  const T* keys = static_cast<const T*>(a.k) + tile.batch * a.k_strides[0] + tile.group * a.k_strides[2];
  const T* values = static_cast<const T*>(a.v) + tile.batch * a.v_strides[0] + tile.group * a.v_strides[2];
  const void* weights = pairs ? static_cast<const void*>(room.weights) : room.scores;
  const void* gradients = pairs ? static_cast<const void*>(room.gradients) : room.dscores;
  for_each_key_block(a, tile, [&](int64_t key, int64_t count) {
    const T *key_rows = keys + key * a.k_strides[1], *value_rows = values + key * a.v_strides[1];
    score_products<T, C>(key_rows, a.k_strides[1], count, a.width, lanes, room.q_turned, room.keys, room.scores);
    finish_scores<C>(a, tile, key, count, lanes, room.scores, slopes ? room.slope : nullptr);
    weights_from<T, C>(pairs, exponent_factor<C>(a), count, lanes, room);
    if (sums.dv != nullptr) sum_over_tile<T, C>(tile, weights, lanes, room.dout, count, a.width, sums.dv + key * width);
    if (!scores_wanted) return;
    score_products<T, C>(value_rows, a.v_strides[1], count, a.width, lanes, room.dout_turned, room.keys, room.dscores);
    score_gradients<T, C>(pairs, slopes, count, lanes, room);
    if (sums.dk != nullptr) sum_over_tile<T, C>(tile, gradients, lanes, room.q, count, a.width, sums.dk + key * width);
    if (a.dq != nullptr) sum_over_keys<T, C>(room.dscores, lanes, key_rows, a.k_strides[1], count, a.width, room.keys, room.dq);
  });
  if (a.dq == nullptr) return;
  for (int64_t lane = 0; lane < lanes; ++lane) room.delta[lane] = static_cast<C>(a.scale);
  scatter_rows<T, C>(tile, room.dq, a.width, lanes, room.delta, static_cast<T*>(a.dq), row_strides);
}

/// Keys that one task of add_slices goes through.
constexpr int64_t kKeyRun = 64;

/// Adds the slices [slices][keys][width] of one head from key `first` on, and writes them times `scale` to column `group` of `out` [B, S,
/// G, K].
template <class T, class C>
void add_slices(const AttentionArgs& a, int64_t batch, int64_t group, int64_t first, int64_t slices, int64_t stride, const C* sums, C scale,
                void* out) {
  const int64_t width = padded<C>(a.width), last = first + kKeyRun < a.keys ? first + kKeyRun : a.keys;
  for (int64_t s = first; s < last; ++s) {
    T* to = static_cast<T*>(out) + ((batch * a.keys + s) * a.groups + group) * a.width;
    for_each_vector<T>(a.width, [&](int64_t c, int64_t count) {
      Vector<C> total = load_vector(sums + s * width + c);
      for (int64_t slice = 1; slice < slices; ++slice) total += load_vector(sums + slice * stride + s * width + c);
      store_stored(to + c, total * splat(scale), count);
    });
  }
}

/// Batch rows whose sums are held at a time: as many as stay near this many bytes, one at least.
constexpr int64_t kSumBytes = 64 << 20;

/// Calls sum(batch, group, slice, memory) for every slice, with `bytes` of memory for it, then add(batch, group, key, memory) for every
/// kKeyRun keys, with that of the slices of the head.
template <class Sum, class Add>
void over_slices(const AttentionArgs& a, int64_t slices, int64_t bytes, const Sum& sum, const Add& add) {
  const int64_t row_bytes = a.groups * slices * bytes, runs = (a.keys + kKeyRun - 1) / kKeyRun;
  const int64_t together = row_bytes > 0 ? within(kSumBytes / row_bytes, 1, a.batch) : a.batch;
  Scratch scratch(together * row_bytes);
  char* memory = scratch.as<char>();
  for (int64_t first = 0; first < a.batch; first += together) {
    const int64_t heads = smaller(a.batch - first, together) * a.groups;
    parallel_for(heads * slices, [&](int64_t task) {
      const int64_t head = task / slices;
      sum(first + head / a.groups, head % a.groups, task % slices, memory + task * bytes);
    });
    parallel_for(heads * runs, [&](int64_t task) {
      const int64_t head = task / runs;
      add(first + head / a.groups, head % a.groups, task % runs * kKeyRun, memory + head * slices * bytes);
    });
  }
}

/// Calls body(tile) for the tiles of a slice.
template <class Body>
void for_each_tile(const AttentionArgs& a, int64_t batch, int64_t group, int64_t slice, int64_t slices, const Body& body) {
  const int64_t tiles = tiles_of(a);
  Tile tile;
  for (int64_t turn = 0; turn * slices < tiles; ++turn) {
    const int64_t index = tile_of_slice(turn, slice, slices);
    if (index >= tiles) continue;
    describe_tile(a, batch, group, index, tile);
    body(tile);
  }
}

template <class T>
void backward(const AttentionArgs& a) {
  using C = compute_t<T>;
  const int64_t width = padded<C>(a.width), slices = slices_of(a), plane = a.keys * width, planes = (a.dk != nullptr) + (a.dv != nullptr);
  over_slices(
      a, slices, planes * plane * static_cast<int64_t>(sizeof(C)),
      [&](int64_t batch, int64_t group, int64_t slice, void* memory) {
        C* sums = static_cast<C*>(memory);
        for (int64_t i = 0; i < planes * plane; ++i) sums[i] = C(0);
        const KeySums<C> key_sums{a.dk != nullptr ? sums : nullptr, a.dv != nullptr ? sums + (planes - 1) * plane : nullptr};
        Scratch scratch(Room<C>::size(a.width, width));
        Room<C> room(scratch.as<C>(), a.width, width);
        for_each_tile(a, batch, group, slice, slices, [&](const Tile& tile) { backward_tile<T, C>(a, tile, room, key_sums); });
      },
      [&](int64_t batch, int64_t group, int64_t key, const void* memory) {
        const C *dk = static_cast<const C*>(memory), *dv = dk + (planes - 1) * plane;
        if (a.dk != nullptr) add_slices<T, C>(a, batch, group, key, slices, planes * plane, dk, static_cast<C>(a.scale), a.dk);
        if (a.dv != nullptr) add_slices<T, C>(a, batch, group, key, slices, planes * plane, dv, C(1), a.dv);
      });
}

#if defined(__AVX512F__)
/// The same for narrow heads. Rows of q stand with the factor of the exponents, so dk gets what that leaves of the scale.
void narrow_backward(const AttentionArgs& a) {
  const int64_t slices = slices_of(a), plane = narrow_plane(a.keys);
  constexpr int64_t kFloat = sizeof(float);
  over_slices(
      a, slices, 2 * plane * kFloat,
      [&](int64_t batch, int64_t group, int64_t slice, void* memory) {
        Scratch rows(sizeof(NarrowRows)), turned(2 * plane * kFloat);
        float *sums = static_cast<float*>(memory), *k = turned.as<float>(), *v = k + plane;
        for (int64_t i = 0; i < 2 * plane; ++i) sums[i] = 0;
        const auto of = [&](const void* base, const int64_t(&strides)[3]) {
          return static_cast<const float*>(base) + batch * strides[0] + group * strides[2];
        };
        turn_keys(of(a.k, a.k_strides), a.k_strides[1], a.keys, k);
        turn_keys(of(a.v, a.v_strides), a.v_strides[1], a.keys, v);
        const NarrowSquares squares{k, v, sums, sums + plane};
        for_each_tile(a, batch, group, slice, slices,
                      [&](const Tile& tile) { NarrowBackward(a, tile, squares, *rows.as<NarrowRows>()).run(); });
      },
      [&](int64_t batch, int64_t group, int64_t key, const void* memory) {
        constexpr float kLn2 = 0.69314718055994530942f;
        const int64_t last = smaller(key + kKeyRun, a.keys), stride = a.groups * a.width;
        const int64_t place = batch * a.keys * stride + group * a.width;
        const float* sums = static_cast<const float*>(memory);
        if (a.dk != nullptr) add_narrow_slices(sums, slices, 2 * plane, key, last, kLn2, static_cast<float*>(a.dk) + place, stride);
        if (a.dv != nullptr) add_narrow_slices(sums + plane, slices, 2 * plane, key, last, 1, static_cast<float*>(a.dv) + place, stride);
      });
}
#endif

void attention_bwd(const AttentionArgs& a) {
#if defined(__AVX512F__)
  if (a.dtype == DType::f32 && is_narrow<float>(a)) return narrow_backward(a);
#endif
  LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward<T>(a)))
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(attention_bwd_kernel, lorikeet::LORIKEET_LEVEL::attention_bwd)
