#pragma once

#include "cpu/attention-tile.h"
#include "cpu/transpose-rounds.h"
#include "cpu/vector-exp.h"

// Attention of f32 heads of kNarrowColumns columns, where a product costs no more than an exponential: what a row needs stands in
// registers. Sixteen query rows of a tile are the lanes of a strip, and a strip leaves out the keys that none of its rows sees.

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int kNarrowColumns = 8;
inline constexpr int64_t kStripRows = 16;

/// Whether a call is one for this file.
template <class T>
LORIKEET_INLINE bool is_narrow(const AttentionArgs& a) {
#if defined(__AVX512F__)
  return __is_same(T, float) && a.width == kNarrowColumns && a.softcap == 0 && a.scale > 0;
#else
  (void)a;
  return false;
#endif
}

#if defined(__AVX512F__)
using Columns = Vector<float>[kNarrowColumns];

inline constexpr int kAhead = 4;
alignas(64) inline constexpr float kZeroRow[kNarrowColumns] = {};

/// 2^x of scores.
LORIKEET_INLINE Vector<float> narrow_weight(Vector<float> x) { return exp2_of<5>(x); }

/// columns[c][i] = rows[i][c].
LORIKEET_INLINE void load_columns(const float* const (&rows)[kStripRows], Columns& columns) {
#pragma GCC unroll 8
  for (int i = 0; i < kNarrowColumns; ++i) {
    const __m256 low = _mm256_loadu_ps(rows[i]), high = _mm256_loadu_ps(rows[i + 8]);
    columns[i] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  transpose_rounds<kNarrowColumns / 2>(columns);
}

/// The other way.
LORIKEET_INLINE void store_columns(Columns& columns, float* const (&rows)[kStripRows]) {
  transpose_rounds<kNarrowColumns / 2>(columns);
#pragma GCC unroll 8
  for (int i = 0; i < kNarrowColumns; ++i) {
    _mm256_storeu_ps(rows[i], __builtin_shufflevector(columns[i], columns[i], 0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_storeu_ps(rows[i + 8], __builtin_shufflevector(columns[i], columns[i], 8, 9, 10, 11, 12, 13, 14, 15));
  }
}

/// The rows of a strip that begins at row `first`, in a tensor with strides of batch, time, head; `spare` stands in for those that the
/// tile does not have.
template <class Float>
LORIKEET_INLINE void find_rows(const Tile& tile, int64_t first, Float* base, const int64_t (&strides)[3], Float* spare,
                               Float* (&rows)[kStripRows]) {
  base += tile.batch * strides[0];
  for (int64_t i = 0; i < kStripRows; ++i) {
    rows[i] = first + i < tile.rows ? base + tile.query[first + i] * strides[1] + tile.head[first + i] * strides[2] : spare;
  }
}

/// The scores of a strip against one key block, and the running softmax.
class NarrowStrip {
 public:
  NarrowStrip(const AttentionArgs& a, const Tile& tile, int64_t first)
      : a_(a),
        tile_(tile),
        first_(first),
        seen_(seen_keys(a, tile.batch, tile.query[first], tile.query[smaller(first + kStripRows, tile.rows) - 1])) {}

  void run() const {
    const float none = -__builtin_inff();
    const float* keys = static_cast<const float*>(a_.k) + tile_.batch * a_.k_strides[0] + tile_.group * a_.k_strides[2];
    const float* values = static_cast<const float*>(a_.v) + tile_.batch * a_.v_strides[0] + tile_.group * a_.v_strides[2];
    Columns q, out{};
    {
      const float* rows[kStripRows];
      find_rows(tile_, first_, static_cast<const float*>(a_.q), a_.q_strides, kZeroRow, rows);
      load_columns(rows, q);
    }
    const Vector<float> factor = splat(exponent_factor<float>(a_));
#pragma GCC unroll 8
    for (Vector<float>& column : q) column *= factor;
    Vector<float> most = splat(none), sum{};
    alignas(64) float scores[kBlockKeys * kStripRows];
    for (int64_t key = seen_.all_from / kBlockKeys * kBlockKeys; key < seen_.all_to; key += kBlockKeys) {
      const int64_t count = seen_.all_to - key < kBlockKeys ? seen_.all_to - key : kBlockKeys;
      if (!documents_meet(a_, tile_, key, count)) continue;
      const Vector<float> before = most;
      most = score_block(q, keys + key * a_.k_strides[1], key, count, most, scores);
      // A row that has seen no key yet has m = -infinity; 0 stands in for it, and all its weights are 0.
      const Vector<float> reference = most == none ? Vector<float>{} : most, shrink = narrow_weight(before - reference);
#pragma GCC unroll 8
      for (Vector<float>& column : out) column *= shrink;
      sum = sum * shrink + add_values(scores, reference, values + key * a_.v_strides[1], count, out);
    }
    write(most, sum, out);
  }

 private:
  /// Scores of N keys from `key` on, to `scores`; returns the larger of them and `most`.
  template <int N>
  LORIKEET_INLINE Vector<float> score_keys(const Columns& q, const float* rows, int64_t key, Vector<float> most, float* scores) const {
    Vector<float> sums[N]{};
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[n] = fma(splat(rows[n * a_.k_strides[1] + c]), q[c], sums[n]);
    }
    if (!tile_.every_key || key < seen_.common_from || key + N > seen_.common_to) {
      for (int n = 0; n < N; ++n) store_vector(scores + n * kStripRows, sums[n]);
      hide(key, N, scores);
      for (int n = 0; n < N; ++n) most = larger(load_vector(scores + n * kStripRows), most);
      return most;
    }
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      store_vector(scores + n * kStripRows, sums[n]);
      most = larger(sums[n], most);
    }
    return most;
  }

  LORIKEET_INLINE Vector<float> score_block(const Columns& q, const float* rows, int64_t key, int64_t count, Vector<float> most,
                                            float* scores) const {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) most = score_keys<4>(q, rows + j * a_.k_strides[1], key + j, most, scores + j * kStripRows);
    for (; j < count; ++j) most = score_keys<1>(q, rows + j * a_.k_strides[1], key + j, most, scores + j * kStripRows);
    return most;
  }

  /// -infinity in the scores of keys that a row does not see.
  void hide(int64_t key, int64_t count, float* scores) const {
    using Words [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = int32_t;
    const auto words = [&](const int32_t* p) { return (Words)load_vector(reinterpret_cast<const float*>(p + first_)); };
    const Words from = words(tile_.from), to = words(tile_.to);
    const Vector<float> hidden = splat(-__builtin_inff());
    for (int64_t j = 0; j < count; ++j) {
      const int64_t place = tile_.batch * a_.keys + key + j;
      const auto s = static_cast<int32_t>(key + j);
      Words seen = (from <= s) & (to > s);
      if (a_.documents != nullptr) seen &= words(tile_.document) == a_.documents[place];
      if (a_.key_mask != nullptr && a_.key_mask[place] == 0) seen = Words{};
      store_vector(scores + j * kStripRows, seen != 0 ? load_vector(scores + j * kStripRows) : hidden);
    }
  }

  /// Adds the values of a key block times their weights to `out`; returns the sum of the weights.
  LORIKEET_INLINE Vector<float> add_values(const float* scores, Vector<float> reference, const float* rows, int64_t count,
                                           Columns& out) const {
    // Weights are made a few keys ahead, so that products fill the time that they take.
    Vector<float> sum{}, ahead[kAhead];
    const auto weigh = [&](int64_t key, Vector<float>& weight) {
      weight = narrow_weight(load_vector(scores + key * kStripRows) - reference);
    };
    const auto add = [&](int64_t key, Vector<float> weight) {
      sum += weight;
#pragma GCC unroll 8
      for (int c = 0; c < kNarrowColumns; ++c) out[c] = fma(splat(rows[key * a_.v_strides[1] + c]), weight, out[c]);
    };
    int64_t j = 0;
    const int64_t whole = count / kAhead * kAhead;
    if (whole > 0) {
#pragma GCC unroll 4
      for (int i = 0; i < kAhead; ++i) weigh(i, ahead[i]);
    }
    for (; j < whole; j += kAhead) {
      Vector<float> weights[kAhead];
#pragma GCC unroll 4
      for (int i = 0; i < kAhead; ++i) weights[i] = ahead[i];
      if (j + kAhead < whole) {
#pragma GCC unroll 4
        for (int i = 0; i < kAhead; ++i) weigh(j + kAhead + i, ahead[i]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < kAhead; ++i) add(j + i, weights[i]);
    }
    for (; j < count; ++j) {
      weigh(j, ahead[0]);
      add(j, ahead[0]);
    }
    return sum;
  }

  LORIKEET_INLINE void write(Vector<float> most, Vector<float> sum, Columns& out) const {
    constexpr float kLn2 = 0.69314718055994530942f;
    const Vector<float> factor = sum == 0.0f ? Vector<float>{} : 1.0f / sum;
#pragma GCC unroll 8
    for (Vector<float>& column : out) column *= factor;
    const int64_t strides[3] = {a_.queries * a_.heads * a_.width, a_.heads * a_.width, a_.width};
    float spare[kNarrowColumns], *rows[kStripRows];
    find_rows(tile_, first_, static_cast<float*>(a_.out), strides, spare, rows);
    store_columns(out, rows);
    if (a_.lse == nullptr) return;
    alignas(64) float log_sums[kStripRows];
    for (int i = 0; i < kStripRows; ++i) log_sums[i] = fma(most[i], kLn2, vlog(sum[i]));
    for (int64_t i = 0; i < kStripRows && first_ + i < tile_.rows; ++i) {
      static_cast<float*>(a_.lse)[tile_.lse_place(first_ + i, a_)] = log_sums[i];
    }
  }

  const AttentionArgs& a_;
  const Tile& tile_;
  const int64_t first_;
  const SeenKeys seen_;
};

LORIKEET_INLINE void narrow_forward(const AttentionArgs& a, const Tile& tile) {
  for (int64_t first = 0; first < tile.rows; first += kStripRows) NarrowStrip(a, tile, first).run();
}
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
