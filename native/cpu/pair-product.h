#pragma once

#include <cstdint>

#include "cpu/simd.h"

// Products of small bf16 matrices that lie in cache, two steps of the contraction at a time: out[m][n] = Σ_c a[m][c] · b[c][n] in f32,
// where a has its rows as they are stored and b stands as pairs [c / 2][n] of (b[c][n], b[c + 1][n]). The bits of an output depend on its
// own row of a and column of b alone.

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512BF16__)
inline constexpr bool kHasPairs = true;

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
  for (; row < rows; ++row) {
    pair_block<1, Vectors>(pairs, {a.data + row * a.row_stride, a.row_stride, a.pair_stride}, b, b_stride, out + row * out_stride,
                           out_stride, accumulate);
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

LORIKEET_INLINE __m512i rounded_bits(const float* from) {
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from)));
}

/// pairs[i] = (even[i], odd[i]) rounded to bf16; without `odd` its part is zero. n is a multiple of 16.
inline void pair_lines(const float* even, const float* odd, int64_t n, uint32_t* pairs) {
  for (int64_t i = 0; i < n; i += 16) {
    __m512i both = rounded_bits(even + i);
    if (odd != nullptr) both = _mm512_or_si512(both, _mm512_slli_epi32(rounded_bits(odd + i), 16));
    _mm512_storeu_si512(pairs + i, both);
  }
}

/// The same of bf16 rows of `columns`, with zeros up to `width`.
inline void pair_rows(const BFloat16* even, const BFloat16* odd, int64_t columns, int64_t width, uint32_t* pairs) {
  for (int64_t c = 0; c < width; c += 16) {
    const int64_t rest = columns - c;
    const __mmask16 mask = rest >= 16 ? 0xffff : static_cast<__mmask16>((1u << (rest > 0 ? rest : 0)) - 1);
    __m512i both = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even + c));
    if (odd != nullptr) both = _mm512_or_si512(both, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd + c)), 16));
    _mm512_storeu_si512(pairs + c, both);
  }
}

/// n floats rounded to bf16; n is a multiple of 16.
inline void narrow(const float* from, int64_t n, BFloat16* to) {
  for (int64_t i = 0; i < n; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
  }
}
#else
inline constexpr bool kHasPairs = false;
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
