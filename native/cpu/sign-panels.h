#pragma once

// Panels of a right operand of one bit a value, and products of a few rows with it, straight from the bits: a shifted word of bits is the
// index of a table of values (or of pairs of them) in a register. Bits and values are those of the generic way (quantized-panels.h).

#include "cpu/gemm-micro.h"
#include "cpu/gemm-pack.h"
#include "cpu/integers.h"
#include "cpu/quantized-slices.h"
#include "cpu/turned-words.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
/// Whether the rows of a matrix of signs are whole words of 32 columns.
LORIKEET_INLINE bool has_sign_words(const QuantizedMatrix& w) {
  return w.format == Quantization::sign && w.columns % kQuantizedGroup == 0 && w.columns > 0;
}

/// The two values as the panel holds them: f32, or bf16 in the low half of a word.
struct SignWords {
  uint32_t low, high;

  LORIKEET_INLINE SignWords(const float* pair, bool narrow)
      : low(narrow ? to_bf16(pair[0]).bits : float_to_bits(pair[0])), high(narrow ? to_bf16(pair[1]).bits : float_to_bits(pair[1])) {}

  LORIKEET_INLINE uint32_t of(uint32_t index, int bit) const { return (index >> bit & 1) != 0 ? high : low; }
  /// Entry i: the value of bit `bit` of i.
  LORIKEET_INLINE __m512i values(int bit) const {
    alignas(64) uint32_t table[16];
    for (uint32_t i = 0; i < 16; ++i) table[i] = of(i, bit);
    return _mm512_load_si512(table);
  }
  /// Entry i: the bf16 values of the bits `bit` and `bit` + 1 of i.
  LORIKEET_INLINE __m512i pairs(int bit) const {
    alignas(64) uint32_t table[16];
    for (uint32_t i = 0; i < 16; ++i) table[i] = of(i, bit) | of(i, bit + 1) << 16;
    return _mm512_load_si512(table);
  }
};

/// Low bits of a word that a look-up takes for its index.
inline constexpr int kIndexBits = 4;

LORIKEET_INLINE __m512i looked_up(__m512i table, __m512i index) { return _mm512_maskz_permutexvar_epi32(0xffff, index, table); }
LORIKEET_INLINE __m512i shifted(__m512i words, int bits) { return (__m512i)((WordVector)words >> static_cast<uint32_t>(bits)); }

LORIKEET_INLINE FloatVector plus_product(FloatVector sum, float x, __m512i values) {
  return multiply_add(splat(x), (FloatVector)values, sum);
}
#if defined(__AVX512BF16__)
LORIKEET_INLINE FloatVector plus_product(FloatVector sum, uint32_t pair, __m512i values) {
  return (FloatVector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(pair)), (__m512bh)values);
}
#endif

/// Words of bits of 16 rows: words[g] holds columns [first + 32 g, + 32) of each. Reads 4 words a row, or one where `whole` is false.
LORIKEET_INLINE void sign_words(const uint8_t* codes, int64_t row_bytes, int64_t first, bool whole, __m512i (&words)[4]) {
  const uint8_t* begin = codes + first / 8;
  if (whole) {
    return turned_words(
        [&](int row) __attribute__((always_inline)) { return begin + row * row_bytes; }, 0, words);
  }
  alignas(64) uint32_t gathered[16];
  for (int row = 0; row < 16; ++row) memcpy(gathered + row, begin + row * row_bytes, sizeof(uint32_t));
  words[0] = _mm512_load_si512(gathered);
}

/// Panel over 32 rows of the matrix from `first` on, contraction over its columns.
inline void sign_rows_panel(const QuantizedMatrix& w, Panel panel, int64_t first, void* out) {
  const bool paired = panel == Panel::bf16;
  const SignWords two(w.scales, paired);
  const __m512i table = paired ? two.pairs(0) : two.values(0);
  const int depth = paired ? 2 : 1;
  auto* words = static_cast<uint32_t*>(out);
  for (int64_t column = 0; column < w.columns;) {
    const bool whole = column + 4 * kQuantizedGroup <= w.columns;
    const int64_t end = column + (whole ? 4 : 1) * kQuantizedGroup;
    __m512i bits[2][4];
    for (int side = 0; side < 2; ++side)
      sign_words(w.codes + (first + side * kVector) * w.row_bytes, w.row_bytes, column, whole, bits[side]);
    for (int group = 0; column < end; ++group, column += kQuantizedGroup) {
      __m512i left = bits[0][group], right = bits[1][group];
      for (int j = 0; j < kQuantizedGroup; j += depth, words += 2 * kVector) {
        _mm512_store_si512(words, looked_up(table, left));
        _mm512_store_si512(words + kVector, looked_up(table, right));
        left = shifted(left, depth);
        right = shifted(right, depth);
      }
    }
  }
}

/// Panel over 32 columns of the matrix from `first` on, contraction over its rows.
inline void sign_columns_panel(const QuantizedMatrix& w, Panel panel, int64_t first, void* out) {
  const bool paired = panel == Panel::bf16;
  const SignWords two(w.scales, paired);
  const __m512i low = _mm512_set1_epi32(static_cast<int>(two.low)), high = _mm512_set1_epi32(static_cast<int>(two.high));
  auto* words = static_cast<uint32_t*>(out);
  const auto side_of = [&](int64_t row, int side) __attribute__((always_inline)) {
    uint16_t bits;
    memcpy(&bits, w.codes + row * w.row_bytes + first / 8 + 2 * side, sizeof bits);
    return _mm512_mask_blend_epi32(bits, low, high);
  };
  for (int64_t row = 0; row < w.rows; row += paired ? 2 : 1, words += 2 * kVector) {
    for (int side = 0; side < 2; ++side) {
      __m512i values = side_of(row, side);
      if (paired && row + 1 < w.rows) values = (__m512i)((WordVector)values | (WordVector)side_of(row + 1, side) << 16);
      _mm512_store_si512(words + side * kVector, values);
    }
  }
}

/// Panel `p` of W, or `turned` of its transpose, where it is a whole one; else false.
LORIKEET_INLINE bool sign_panel(const QuantizedMatrix& w, bool turned, Panel panel, int64_t p, void* out) {
  constexpr int64_t kWidth = 2 * kVector;
  if (!has_sign_words(w) || (p + 1) * kWidth > (turned ? w.columns : w.rows)) return false;
  if (turned) {
    sign_columns_panel(w, panel, p * kWidth, out);
  } else {
    sign_rows_panel(w, panel, p * kWidth, out);
  }
  return true;
}

/// tile[panel][row][2] = R rows of x times N whole panels of W from row `first` on. A column (or pair of columns) is one step of all sums;
/// a word is shifted once for the kTables steps whose bits the index of a look-up holds.
template <class Kind, int R, int N, class Left>
void sign_few_rows(const QuantizedMatrix& w, int64_t first, const Left* left, int64_t left_stride, FloatVector* tile) {
  constexpr bool kPaired = __is_same(Left, uint32_t);
  constexpr int kDepth = kPaired ? 2 : 1, kSides = 2 * N, kTables = kIndexBits / kDepth;
  const SignWords two(w.scales, Kind::kDepth == 2);
  __m512i tables[kTables];
#pragma GCC unroll 4
  for (int t = 0; t < kTables; ++t) {
    tables[t] = kPaired ? two.pairs(t * kDepth) : two.values(t);
    if constexpr (Kind::kDepth == 2 && !kPaired) tables[t] = (__m512i)((WordVector)tables[t] << 16);
  }
  const uint8_t* codes = w.codes + first * w.row_bytes;
  FloatVector sum[kSides][R]{};
  for (int64_t column = 0; column < w.columns;) {
    const bool whole = column + 4 * kQuantizedGroup <= w.columns;
    const int64_t end = column + (whole ? 4 : 1) * kQuantizedGroup;
    __m512i bits[kSides][4];
#pragma GCC unroll 8
    for (int side = 0; side < kSides; ++side) {
      sign_words(codes + side * kVector * w.row_bytes, w.row_bytes, column, whole, bits[side]);
    }
    for (int group = 0; column < end; ++group, column += kQuantizedGroup) {
      const Left* x = left + column / kDepth;
      __m512i index[kSides];
#pragma GCC unroll 8
      for (int side = 0; side < kSides; ++side) index[side] = bits[side][group];
      for (int step = 0; step < kQuantizedGroup / kDepth; step += kTables) {
#pragma GCC unroll 4
        for (int t = 0; t < kTables; ++t) {
#pragma GCC unroll 8
          for (int side = 0; side < kSides; ++side) {
            const __m512i values = looked_up(tables[t], index[side]);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) sum[side][r] = plus_product(sum[side][r], x[r * left_stride + step + t], values);
          }
        }
#pragma GCC unroll 8
        for (int side = 0; side < kSides; ++side) index[side] = shifted(index[side], kIndexBits);
      }
    }
  }
#pragma GCC unroll 8
  for (int side = 0; side < kSides; ++side) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) tile[(side / 2 * R + r) * 2 + side % 2] = sum[side][r];
  }
}
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
