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

template <int Rows, int Vectors>
LORIKEET_INLINE void pair_block(int64_t pairs, const BFloat16* a, int64_t a_stride, const uint32_t* b, int64_t b_stride, float* out,
                                int64_t out_stride) {
  __m512 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) sum[i][j] = _mm512_setzero_ps();
  }
  for (int64_t c = 0; c < pairs; ++c) {
    __m512bh right[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) right[j] = (__m512bh)_mm512_loadu_si512(b + c * b_stride + j * 16);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const __m512bh left = (__m512bh)_mm512_set1_epi32(static_cast<int>(pair_at(a + i * a_stride + 2 * c)));
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) _mm512_storeu_ps(out + i * out_stride + j * 16, sum[i][j]);
  }
}

template <int Vectors>
void pair_columns(int64_t rows, int64_t pairs, const BFloat16* a, int64_t a_stride, const uint32_t* b, int64_t b_stride, float* out,
                  int64_t out_stride) {
  int64_t row = 0;
  for (; row + 6 <= rows; row += 6)
    pair_block<6, Vectors>(pairs, a + row * a_stride, a_stride, b, b_stride, out + row * out_stride, out_stride);
  for (; row < rows; ++row) pair_block<1, Vectors>(pairs, a + row * a_stride, a_stride, b, b_stride, out + row * out_stride, out_stride);
}

/// `columns` is a multiple of 16.
inline void pair_product(int64_t rows, int64_t columns, int64_t pairs, const BFloat16* a, int64_t a_stride, const uint32_t* b,
                         int64_t b_stride, float* out, int64_t out_stride) {
  int64_t column = 0;
  for (; column + 64 <= columns; column += 64) pair_columns<4>(rows, pairs, a, a_stride, b + column, b_stride, out + column, out_stride);
  for (; column < columns; column += 16) pair_columns<1>(rows, pairs, a, a_stride, b + column, b_stride, out + column, out_stride);
}
#else
inline constexpr bool kHasPairs = false;
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
