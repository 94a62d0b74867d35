#pragma once

#include "cpu/attention-narrow.h"
#include "cpu/stored-vector.h"

// Backward of narrow heads (see attention-narrow.h). Sixteen keys are the lanes: the sums of dk and dv stand in registers while the rows of
// a tile go by, and what a row needs of q and dout is broadcast. What the sums of dq need, ds, is kept for one key block.

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
inline constexpr int64_t kLaneKeys = 16, kRunRows = 4;

/// Floats of kNarrowColumns columns of `keys` keys, a square [column][lane] for every kLaneKeys of them.
LORIKEET_INLINE int64_t narrow_plane(int64_t keys) { return (keys + kLaneKeys - 1) / kLaneKeys * kLaneKeys * kNarrowColumns; }

/// Rows of k or v of one head as squares.
LORIKEET_INLINE void turn_keys(const float* rows, int64_t stride, int64_t keys, float* squares) {
  for (int64_t key = 0; key < keys; key += kLaneKeys) {
    const float* of[kLaneKeys];
    for (int64_t i = 0; i < kLaneKeys; ++i) of[i] = key + i < keys ? rows + (key + i) * stride : kZeroRow;
    Columns columns;
    load_columns(of, columns);
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) store_vector(squares + key * kNarrowColumns + c * kLaneKeys, columns[c]);
  }
}

/// What a tile has of the rows, and ds of one key block.
struct NarrowRows {
  alignas(64) float q[kTileRows][kNarrowColumns];  // times the factor of the exponents
  alignas(64) float dout[kTileRows][kNarrowColumns];
  alignas(64) float dq[kTileRows][kNarrowColumns];
  alignas(64) float minus_lse[kTileRows], minus_delta[kTileRows];  // lse in base 2
  alignas(64) float ds[kTileRows][kBlockKeys];
};

/// k and v of a head as squares, and the sums of a slice for dk and dv, likewise.
struct NarrowSquares {
  const float *k, *v;
  float *dk, *dv;
};

class NarrowBackward {
 public:
  NarrowBackward(const AttentionArgs& a, const Tile& tile, const NarrowSquares& squares, NarrowRows& rows)
      : a_(a), tile_(tile), squares_(squares), rows_(rows), runs_((tile.rows + 2 * kRunRows - 1) / (2 * kRunRows) * 2) {
    for (int64_t row = 0; row < tile.rows; row += kRunRows) {
      seen_[row / kRunRows] = seen_keys(a, tile.batch, tile.query[row], tile.query[smaller(row + kRunRows, tile.rows) - 1]);
    }
  }

  void run() {
    prepare();
    const float* keys = static_cast<const float*>(a_.k) + tile_.batch * a_.k_strides[0] + tile_.group * a_.k_strides[2];
    for (int64_t key = tile_.all_from / kBlockKeys * kBlockKeys; key < tile_.all_to; key += kBlockKeys) {
      const int64_t end = smaller(key + kBlockKeys, tile_.all_to);
      if (!documents_meet(a_, tile_, key, end - key)) continue;
      for (int64_t lane_key = key; lane_key < end; lane_key += kLaneKeys) add_square(lane_key, lane_key - key);
      for (int64_t run = 0; run < runs_ && a_.dq != nullptr; run += 2) add_queries(run, key, end, keys);
    }
    if (a_.dq != nullptr) write_queries();
  }

 private:
  /// Whether the rows of a run see any of the keys [key, key + kLaneKeys).
  LORIKEET_INLINE bool sees(int64_t run, int64_t key) const { return seen_[run].all_from < key + kLaneKeys && seen_[run].all_to > key; }

  void prepare() {
    const float factor = exponent_factor<float>(a_), none = -__builtin_inff();
    const int64_t strides[3] = {a_.queries * a_.heads * a_.width, a_.heads * a_.width, a_.width};
    for (int64_t first = 0; first < tile_.rows; first += kStripRows) {
      const float *q[kStripRows], *dout[kStripRows], *out[kStripRows];
      find_rows(tile_, first, static_cast<const float*>(a_.q), a_.q_strides, kZeroRow, q);
      find_rows(tile_, first, static_cast<const float*>(a_.dout), strides, kZeroRow, dout);
      for (int64_t i = 0; i < kStripRows; ++i) {
        _mm256_store_ps(rows_.q[first + i], _mm256_loadu_ps(q[i]) * _mm256_set1_ps(factor));
        _mm256_store_ps(rows_.dout[first + i], _mm256_loadu_ps(dout[i]));
        _mm256_store_ps(rows_.dq[first + i], __m256{});
      }
      alignas(64) float lse[kStripRows] = {};
      for (int64_t i = 0; i < kStripRows && first + i < tile_.rows; ++i) {
        lse[i] = static_cast<const float*>(a_.lse)[tile_.lse_place(first + i, a_)];
      }
      const Vector<float> sums = load_vector(lse);
      store_vector(rows_.minus_lse + first, sums == none ? Vector<float>{} : sums * -1.4426950408889634074f);
      store_vector(rows_.minus_delta + first, Vector<float>{});
      if (a_.out == nullptr) continue;
      find_rows(tile_, first, static_cast<const float*>(a_.out), strides, kZeroRow, out);
      Columns gradients, outputs;
      load_columns(dout, gradients);
      load_columns(out, outputs);
      Vector<float> delta{};
#pragma GCC unroll 8
      for (int c = 0; c < kNarrowColumns; ++c) delta = fma(-gradients[c], outputs[c], delta);
      store_vector(rows_.minus_delta + first, delta);
    }
  }

  /// Adds to the sums of dk and dv of kLaneKeys keys from `key` on; leaves ds in the columns from `column` on.
  void add_square(int64_t key, int64_t column) {
    Columns dk, dv;
    const int64_t place = key * kNarrowColumns;
    const float *k = squares_.k + place, *v = squares_.v + place;
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) {
      dk[c] = load_vector(squares_.dk + place + c * kLaneKeys);
      dv[c] = load_vector(squares_.dv + place + c * kLaneKeys);
    }
    for (int64_t run = 0; run < runs_; ++run) {
      if (sees(run, key)) {
        add_run(run, key, column, k, v, dk, dv);
      } else if (sees(run ^ 1, key)) {  // which add_queries takes together with this one
        for (int i = 0; i < kRunRows; ++i) store_vector(rows_.ds[run * kRunRows + i] + column, Vector<float>{});
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) {
      store_vector(squares_.dk + place + c * kLaneKeys, dk[c]);
      store_vector(squares_.dv + place + c * kLaneKeys, dv[c]);
    }
  }

  LORIKEET_INLINE void add_run(int64_t run, int64_t key, int64_t column, const float* k, const float* v, Columns& dk, Columns& dv) {
    const int64_t row = run * kRunRows;
    const SeenKeys& seen = seen_[run];
    const bool whole = tile_.every_key && key >= seen.common_from && key + kLaneKeys <= seen.common_to;
    Vector<float> weights[kRunRows], gradients[kRunRows];
    products(rows_.q + row, rows_.minus_lse + row, k, weights);
#pragma GCC unroll 4
    for (Vector<float>& weight : weights) weight = narrow_weight(weight);
    __mmask16 lanes[kRunRows];
#pragma GCC unroll 4
    for (int i = 0; i < kRunRows; ++i) {
      lanes[i] = whole ? kAllLanes : seen_lanes(row + i, key);
      weights[i] = (Vector<float>)_mm512_maskz_mov_ps(lanes[i], (__m512)weights[i]);
    }
    products(rows_.dout + row, rows_.minus_delta + row, v, gradients);
    // Broadcasts are operands of a product; those of above, kept until here, would push sums out of registers.
    asm volatile("" ::: "memory");
    add_products(rows_.dout + row, weights, dv);
#pragma GCC unroll 4
    for (int i = 0; i < kRunRows; ++i) {
      gradients[i] = (Vector<float>)_mm512_maskz_mul_ps(lanes[i], (__m512)gradients[i], (__m512)weights[i]);
      store_vector(rows_.ds[row + i] + column, gradients[i]);
    }
    add_products(rows_.q + row, gradients, dk);
  }

  /// sums[i] = starts[i] + rows[i] times the columns of keys.
  LORIKEET_INLINE static void products(const float (*rows)[kNarrowColumns], const float* starts, const float* keys,
                                       Vector<float> (&sums)[kRunRows]) {
#pragma GCC unroll 4
    for (int i = 0; i < kRunRows; ++i) sums[i] = splat(starts[i]);
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) {
      const Vector<float> column = load_vector(keys + c * kLaneKeys);
#pragma GCC unroll 4
      for (int i = 0; i < kRunRows; ++i) sums[i] = fma(splat(rows[i][c]), column, sums[i]);
    }
  }

  /// out[c] += the sum of rows[i][c] times factors[i].
  LORIKEET_INLINE static void add_products(const float (*rows)[kNarrowColumns], const Vector<float> (&factors)[kRunRows], Columns& out) {
#pragma GCC unroll 4
    for (int i = 0; i < kRunRows; ++i) {
#pragma GCC unroll 8
      for (int c = 0; c < kNarrowColumns; ++c) out[c] = fma(splat(rows[i][c]), factors[i], out[c]);
    }
  }

  /// Which of the keys [key, key + kLaneKeys) a row sees.
  __mmask16 seen_lanes(int64_t row, int64_t key) const {
    const int64_t from = within(tile_.from[row] - key, 0, kLaneKeys), to = within(tile_.to[row] - key, 0, kLaneKeys);
    uint32_t lanes = ((1u << to) - 1) & ~((1u << from) - 1);
    const int64_t place = tile_.batch * a_.keys + key;
    if (tile_.every_key) return static_cast<__mmask16>(lanes);
    for (int64_t i = from; i < to; ++i) {
      const bool seen = (a_.key_mask == nullptr || a_.key_mask[place + i] != 0) &&
                        (a_.documents == nullptr || a_.documents[place + i] == tile_.document[row]);
      lanes &= ~(static_cast<uint32_t>(!seen) << i);
    }
    return static_cast<__mmask16>(lanes);
  }

  /// Adds ds k of keys [key, end) to dq of two runs of rows.
  void add_queries(int64_t run, int64_t key, int64_t end, const float* keys) {
    constexpr int kRows = 2 * kRunRows;
    const int64_t row = run * kRunRows;
    __m256 sums[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) sums[i] = _mm256_load_ps(rows_.dq[row + i]);
    const int64_t from = within(seen_[run].all_from, key, end), to = within(seen_[run].all_to, seen_[run + 1].all_to, end);
    for (int64_t s = from; s < to; ++s) {
      const __m256 of_key = _mm256_loadu_ps(keys + s * a_.k_strides[1]);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) sums[i] = _mm256_fmadd_ps(_mm256_set1_ps(rows_.ds[row + i][s - key]), of_key, sums[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) _mm256_store_ps(rows_.dq[row + i], sums[i]);
  }

  void write_queries() const {
    const float scale = static_cast<float>(a_.scale);
    const int64_t strides[3] = {a_.queries * a_.heads * a_.width, a_.heads * a_.width, a_.width};
    for (int64_t row = 0; row < tile_.rows; ++row) {
      _mm256_storeu_ps(static_cast<float*>(a_.dq) + tile_.offset(row, strides), _mm256_load_ps(rows_.dq[row]) * _mm256_set1_ps(scale));
    }
  }

  const AttentionArgs& a_;
  const Tile& tile_;
  const NarrowSquares& squares_;
  NarrowRows& rows_;
  const int64_t runs_;
  SeenKeys seen_[kTileRows / kRunRows]{};
};

/// Writes the sum of the slices [slices][narrow_plane] of one head for keys [first, last), times `scale`, to rows of `out`.
LORIKEET_INLINE void add_narrow_slices(const float* sums, int64_t slices, int64_t slice_stride, int64_t first, int64_t last, float scale,
                                       float* out, int64_t stride) {
  for (int64_t key = first; key < last; key += kLaneKeys) {
    Columns columns;
#pragma GCC unroll 8
    for (int c = 0; c < kNarrowColumns; ++c) {
      const float* from = sums + key * kNarrowColumns + c * kLaneKeys;
      columns[c] = load_vector(from);
      for (int64_t slice = 1; slice < slices; ++slice) columns[c] += load_vector(from + slice * slice_stride);
      columns[c] *= scale;
    }
    float spare[kNarrowColumns], *rows[kLaneKeys];
    for (int64_t i = 0; i < kLaneKeys; ++i) rows[i] = key + i < last ? out + (key + i) * stride : spare;
    store_columns(columns, rows);
  }
}
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
