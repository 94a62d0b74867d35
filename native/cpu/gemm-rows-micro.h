#pragma once

// Register blocks of sums over rows whose right operand is read where it lies: tile[R][NV vectors] += left words · rows, one row (for bf16
// a pair of rows, interleaved in registers) after the other. The left words of a step lie side by side.

#include "cpu/gemm-micro.h"
#include "cpu/pair-product.h"

namespace lorikeet::LORIKEET_LEVEL {

/// NV vectors of rows in memory that lie `stride` bytes apart. What lies `ahead` bytes further is brought into cache.
template <class Kind, int NV>
struct RowSteps {
  using Vector = typename Kind::Vector;
  const char* at;
  int64_t stride, ahead;

  LORIKEET_INLINE void take(Vector (&right)[NV]) {
    for (int j = 0; j < NV; ++j) __builtin_memcpy(&right[j], at + j * kVectorBytes, kVectorBytes);
    for (int byte = 0; byte < NV * kVectorBytes; byte += 64) __builtin_prefetch(at + ahead + byte, 0, 2);
    at += stride;
  }
};

#if defined(__AVX512BF16__)
template <int NV>
struct RowSteps<KindPairs, NV> {
  const char* at;
  int64_t stride, ahead;

  LORIKEET_INLINE void take(FloatVector (&right)[NV]) {
    if constexpr (NV == 2) {
      const __m512i even = _mm512_loadu_si512(at), odd = _mm512_loadu_si512(at + stride);
      right[0] = (FloatVector)interleaved_first(even, odd);
      right[1] = (FloatVector)interleaved_second(even, odd);
    } else {
      right[0] = (FloatVector)interleaved_halves(at, at + stride);
    }
    __builtin_prefetch(at + ahead, 0, 2);
    __builtin_prefetch(at + stride + ahead, 0, 2);
    at += 2 * stride;
  }
};
#endif

template <class Kind, int NV, int R>
void rows_block(int64_t steps, const typename Kind::Word* left, int64_t left_stride, const char* first_row, int64_t row_stride,
                int64_t ahead, void* tile_memory) {
  using Vector = typename Kind::Vector;
  RowSteps<Kind, NV> rows{first_row, row_stride, ahead};
  auto* tile = static_cast<Vector*>(tile_memory);
  Vector sum[R][NV];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) sum[i][j] = tile[i * 2 + j];
  }
  for (; steps > 0; --steps) {
    Vector right[NV];
    rows.take(right);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vector a = Kind::left(reinterpret_cast<const char*>(left + i));
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = Kind::multiply(a, right[j], sum[i][j]);
    }
    left += left_stride;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) tile[i * 2 + j] = sum[i][j];
  }
}

template <class Kind>
using RowsBlock = void (*)(int64_t steps, const typename Kind::Word* left, int64_t left_stride, const char* rows, int64_t row_stride,
                           int64_t ahead, void* tile);

/// The register block for `rows` rows (1 to kRows).
template <class Kind, int NV, int R = kRows>
RowsBlock<Kind> rows_block_for(int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return rows_block_for<Kind, NV, R - 1>(rows);
  }
  return rows_block<Kind, NV, R>;
}

}  // namespace lorikeet::LORIKEET_LEVEL
