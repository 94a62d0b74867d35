#pragma once

#include "cpu/simd.h"

// Products of small matrices that lie in cache: out[m][n] (+)= Σ_c a[m][c] · b[c][n], one fused multiply-add after the other in order of c.
// The bits of an output depend on its own row of a and column of b alone, whatever the tile around it.

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kProductRows = 6, kProductVectors = 4;
#elif defined(__AVX2__)
inline constexpr int kProductRows = 6, kProductVectors = 2;
#else
inline constexpr int kProductRows = 3, kProductVectors = 2;
#endif

/// A matrix read element by element.
template <class C>
struct Left {
  const C* data;
  int64_t row_stride, column_stride;
};

template <class C, int Rows, int Vectors>
LORIKEET_INLINE void product_block(int64_t depth, Left<C> a, const C* b, int64_t b_stride, C* out, int64_t out_stride, bool accumulate) {
  constexpr int kWidth = kVectorWidth<C>;
  Vector<C> sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) sum[i][j] = accumulate ? load_vector(out + i * out_stride + j * kWidth) : Vector<C>{};
  }
  for (int64_t c = 0; c < depth; ++c) {
    Vector<C> right[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) right[j] = load_vector(b + c * b_stride + j * kWidth);
    const C* left = a.data + c * a.column_stride;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      Vector<C> value = splat(left[i * a.row_stride]);
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] = fma(value, right[j], sum[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) store_vector(out + i * out_stride + j * kWidth, sum[i][j]);
  }
}

template <class C, int Vectors>
void product_columns(int64_t rows, int64_t depth, Left<C> a, const C* b, int64_t b_stride, C* out, int64_t out_stride, bool accumulate) {
  int64_t row = 0;
  // One vector needs as many rows again to hide the latency of a multiply-add.
  constexpr int kTallRows = Vectors == 1 ? 2 * kProductRows : kProductRows;
  for (; kTallRows > kProductRows && row + kTallRows <= rows; row += kTallRows) {
    product_block<C, kTallRows, Vectors>(depth, {a.data + row * a.row_stride, a.row_stride, a.column_stride}, b, b_stride,
                                         out + row * out_stride, out_stride, accumulate);
  }
  for (; row + kProductRows <= rows; row += kProductRows) {
    product_block<C, kProductRows, Vectors>(depth, {a.data + row * a.row_stride, a.row_stride, a.column_stride}, b, b_stride,
                                            out + row * out_stride, out_stride, accumulate);
  }
  Left<C> rest{a.data + row * a.row_stride, a.row_stride, a.column_stride};
  C* rest_out = out + row * out_stride;
  switch (rows - row) {
    case 1: return product_block<C, 1, Vectors>(depth, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 2: return product_block<C, 2, Vectors>(depth, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 3: return product_block<C, 3, Vectors>(depth, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 4: return product_block<C, 4, Vectors>(depth, rest, b, b_stride, rest_out, out_stride, accumulate);
    case 5: return product_block<C, 5, Vectors>(depth, rest, b, b_stride, rest_out, out_stride, accumulate);
    default: return;
  }
}

/// `columns` is a multiple of kVectorWidth<C>.
template <class C>
void product(int64_t rows, int64_t columns, int64_t depth, Left<C> a, const C* b, int64_t b_stride, C* out, int64_t out_stride,
             bool accumulate) {
  constexpr int kStep = kProductVectors * kVectorWidth<C>;
  int64_t column = 0;
  for (; column + kStep <= columns; column += kStep) {
    product_columns<C, kProductVectors>(rows, depth, a, b + column, b_stride, out + column, out_stride, accumulate);
  }
  for (; column < columns; column += kVectorWidth<C>) {
    product_columns<C, 1>(rows, depth, a, b + column, b_stride, out + column, out_stride, accumulate);
  }
}

#if defined(__AVX512F__)
/// Columns that fill half a register.
inline constexpr int64_t kHalfColumns = 8;

template <int Rows>
LORIKEET_INLINE void half_block(int64_t depth, Left<float> a, const float* b, int64_t b_stride, float* out, int64_t out_stride) {
  __m256 sum[Rows];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) sum[i] = _mm256_loadu_ps(out + i * out_stride);
  for (int64_t c = 0; c < depth; ++c) {
    const __m256 right = _mm256_loadu_ps(b + c * b_stride);
    const float* left = a.data + c * a.column_stride;
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) sum[i] = _mm256_fmadd_ps(_mm256_set1_ps(left[i * a.row_stride]), right, sum[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) _mm256_storeu_ps(out + i * out_stride, sum[i]);
}

/// Adds the product to the first kHalfColumns columns of out, in the bits of `product`.
inline void half_product(int64_t rows, int64_t depth, Left<float> a, const float* b, int64_t b_stride, float* out, int64_t out_stride) {
  int64_t row = 0;
  auto left = [&] { return Left<float>{a.data + row * a.row_stride, a.row_stride, a.column_stride}; };
  for (; row + 16 <= rows; row += 16) half_block<16>(depth, left(), b, b_stride, out + row * out_stride, out_stride);
  for (; row + 4 <= rows; row += 4) half_block<4>(depth, left(), b, b_stride, out + row * out_stride, out_stride);
  for (; row < rows; ++row) half_block<1>(depth, left(), b, b_stride, out + row * out_stride, out_stride);
}
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
