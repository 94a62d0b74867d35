#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/level.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

// Products of small bf16 matrices that lie in cache, two steps of the contraction at a time: out[m][n] = Σ_c a[m][c] · b[c][n] in f32,
// where a has its rows as they are stored and b stands as pairs [c / 2][n] of (b[c][n], b[c + 1][n]). The bits of an output depend on its
// own row of a and column of b alone.

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512BF16__)
LORIKEET_INLINE uint32_t pair_at(const BFloat16* p) {
  uint32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return pair;
}

/// a read pair by pair: (c, c + 1) of row m lies at data[m * row_stride + c / 2 * pair_stride].
struct LeftPairs {
  const BFloat16* data;
  int64_t row_stride, pair_stride;
};

template <int Rows, int Vectors>
LORIKEET_INLINE void pair_block(int64_t pairs, LeftPairs a, const uint32_t* b, int64_t b_stride, float* out, int64_t out_stride,
                                bool accumulate) {
  __m512 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) sum[i][j] = accumulate ? _mm512_loadu_ps(out + i * out_stride + j * 16) : _mm512_setzero_ps();
  }
  for (int64_t c = 0; c < pairs; ++c) {
    __m512bh right[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) right[j] = (__m512bh)_mm512_loadu_si512(b + c * b_stride + j * 16);
    const BFloat16* left = a.data + c * a.pair_stride;
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const __m512bh value = (__m512bh)_mm512_set1_epi32(static_cast<int>(pair_at(left + i * a.row_stride)));
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], value, right[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) _mm512_storeu_ps(out + i * out_stride + j * 16, sum[i][j]);
  }
}

template <int Vectors>
void pair_columns(int64_t rows, int64_t pairs, LeftPairs a, const uint32_t* b, int64_t b_stride, float* out, int64_t out_stride,
                  bool accumulate) {
  int64_t row = 0;
  for (; row + 6 <= rows; row += 6) {
    pair_block<6, Vectors>(pairs, {a.data + row * a.row_stride, a.row_stride, a.pair_stride}, b, b_stride, out + row * out_stride,
                           out_stride, accumulate);
  }
  const LeftPairs rest{a.data + row * a.row_stride, a.row_stride, a.pair_stride};
  float* rest_out = out + row * out_stride;
  switch (rows - row) {
    case 1: return pair_block<1, Vectors>(pairs, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 2: return pair_block<2, Vectors>(pairs, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 3: return pair_block<3, Vectors>(pairs, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 4: return pair_block<4, Vectors>(pairs, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 5: return pair_block<5, Vectors>(pairs, rest, b, b_stride, rest_out, out_stride, accumulate);
    default: return;
  }
}

/// out[m][n] (+)= Σ over `pairs`; `columns` is a multiple of 16.
inline void pair_product(int64_t rows, int64_t columns, int64_t pairs, LeftPairs a, const uint32_t* b, int64_t b_stride, float* out,
                         int64_t out_stride, bool accumulate) {
  int64_t column = 0;
  for (; column + 64 <= columns; column += 64) {
    pair_columns<4>(rows, pairs, a, b + column, b_stride, out + column, out_stride, accumulate);
  }
  for (; column < columns; column += 16) pair_columns<1>(rows, pairs, a, b + column, b_stride, out + column, out_stride, accumulate);
}

/// (even, odd) side by side in 16 words.
LORIKEET_INLINE void store_interleaved(__m512i even_low_odd_high, uint32_t* pairs) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                         18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(pairs, _mm512_maskz_permutexvar_epi16(0xffffffff, order, even_low_odd_high));
}

/// The words (even, odd) of 16 columns of two bf16 rows.
LORIKEET_INLINE __m512i interleaved_halves(const void* even, const void* odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                         18, 2, 17, 1, 16, 0);
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(even)));
  const __m512i both = _mm512_maskz_inserti64x4(0xff, low, _mm256_loadu_si256(static_cast<const __m256i*>(odd)), 1);
  return _mm512_maskz_permutexvar_epi16(0xffffffff, order, both);
}

/// pairs[i] = (even[i], odd[i]) rounded to bf16.
LORIKEET_INLINE void store_pairs(__m512 even, __m512 odd, uint32_t* pairs) {
  store_interleaved((__m512i)_mm512_cvtne2ps_pbh(odd, even), pairs);
}

/// The same of `count` <= 16 values of two rows; without `odd` its part is zero.
LORIKEET_INLINE void store_pairs(const float* even, const float* odd, int64_t count, uint32_t* pairs) {
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  const __m512 low = _mm512_maskz_loadu_ps(mask, even), high = odd != nullptr ? _mm512_maskz_loadu_ps(mask, odd) : _mm512_setzero_ps();
  alignas(64) uint32_t words[16];
  store_pairs(low, high, words);
  _mm512_mask_storeu_epi32(pairs, mask, _mm512_load_si512(words));
}

/// The words (even, odd) of 32 columns of two bf16 rows: the first or the second 16.
LORIKEET_INLINE __m512i interleaved_first(__m512i even, __m512i odd) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3,
                                         34, 2, 33, 1, 32, 0);
  return _mm512_permutex2var_epi16(even, order, odd);
}
LORIKEET_INLINE __m512i interleaved_second(__m512i even, __m512i odd) {
  const __m512i order = _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54, 22, 53, 21, 52, 20, 51,
                                         19, 50, 18, 49, 17, 48, 16);
  return _mm512_permutex2var_epi16(even, order, odd);
}

/// The same of bf16 rows of `columns`, with zeros up to a multiple of 16; without `odd` its part is zero.
LORIKEET_INLINE void pair_rows(const BFloat16* even, const BFloat16* odd, int64_t columns, uint32_t* pairs) {
  int64_t c = 0;
  for (; c + 32 <= columns; c += 32) {
    const __m512i low = _mm512_loadu_si512(even + c), high = odd != nullptr ? _mm512_loadu_si512(odd + c) : _mm512_setzero_si512();
    _mm512_storeu_si512(pairs + c, interleaved_first(low, high));
    _mm512_storeu_si512(pairs + c + 16, interleaved_second(low, high));
  }
  for (; c < columns; c += 16) {
    const int64_t rest = columns - c;
    const __mmask16 mask = rest >= 16 ? 0xffff : static_cast<__mmask16>((1u << rest) - 1);
    const __m256i high = odd != nullptr ? _mm256_maskz_loadu_epi16(mask, odd + c) : _mm256_setzero_si256();
    store_interleaved(_mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(mask, even + c)), high, 1), pairs + c);
  }
}
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
