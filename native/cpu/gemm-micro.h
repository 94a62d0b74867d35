#pragma once

// Register blocks of the packed matrix product: tile[R][NV vectors] (+)= left block · right panel, one step of the contraction (two for
// bf16 pairs) after the other. R rows of a left block whose rows lie kRows apart; a tile row is two vectors long whatever NV is.
//   KindF32     f32 left, f32 panel
//   KindWiden   f32 left, bf16 pairs panel widened on load
//   KindPairs   bf16 pairs left, bf16 pairs panel, one dot instruction per pair
//   KindF64     f64 both

#include <cstdint>

#include "cpu/level.h"
#include "ops/gemm.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int kRows = kGemmRows[static_cast<int>(kThisLevel)];
inline constexpr int kVector = kGemmVector[static_cast<int>(kThisLevel)];
inline constexpr int kVectorBytes = kVector * 4;
/// Bytes of a tile: kRows rows of two vectors.
inline constexpr int kTileBytes = kRows * 2 * kVectorBytes;

using FloatVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = float;
using DoubleVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = double;
using WordVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = uint32_t;

#if defined(__AVX512F__)
LORIKEET_INLINE FloatVector splat(float a) { return (FloatVector)_mm512_set1_ps(a); }
LORIKEET_INLINE DoubleVector splat(double a) { return (DoubleVector)_mm512_set1_pd(a); }
LORIKEET_INLINE FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector c) {
  return (FloatVector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
LORIKEET_INLINE DoubleVector multiply_add(DoubleVector a, DoubleVector b, DoubleVector c) {
  return (DoubleVector)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__)
LORIKEET_INLINE FloatVector splat(float a) { return (FloatVector)_mm256_set1_ps(a); }
LORIKEET_INLINE DoubleVector splat(double a) { return (DoubleVector)_mm256_set1_pd(a); }
LORIKEET_INLINE FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector c) {
  return (FloatVector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
LORIKEET_INLINE DoubleVector multiply_add(DoubleVector a, DoubleVector b, DoubleVector c) {
  return (DoubleVector)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
LORIKEET_INLINE FloatVector splat(float a) { return FloatVector{a, a, a, a}; }
LORIKEET_INLINE DoubleVector splat(double a) { return DoubleVector{a, a}; }
#if defined(__aarch64__)
LORIKEET_INLINE FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector c) {
  return (FloatVector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
LORIKEET_INLINE DoubleVector multiply_add(DoubleVector a, DoubleVector b, DoubleVector c) {
  return (DoubleVector)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
LORIKEET_INLINE FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector c) { return a * b + c; }
LORIKEET_INLINE DoubleVector multiply_add(DoubleVector a, DoubleVector b, DoubleVector c) { return a * b + c; }
#endif
#endif

template <class Scalar>
struct VectorOf {
  using type = FloatVector;
};
template <>
struct VectorOf<double> {
  using type = DoubleVector;
};

/// Left and right operands of one float type.
template <class Scalar>
struct KindPlain {
  using Accumulator = Scalar;
  using Vector = typename VectorOf<Scalar>::type;
  using Left = Scalar;
  static constexpr int kDepth = 1;     // contraction elements eaten by a step
  static constexpr int kLeftRows = 1;  // rows of the left block (kRows elements each) eaten by a step
  template <int R, int NV>
  LORIKEET_INLINE static void step(Vector (&sum)[R][NV], const Left* left, const Vector* right) {
    Vector b[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = right[j];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      Vector a = splat(left[i]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = multiply_add(a, b[j], sum[i][j]);
    }
  }
};
using KindF32 = KindPlain<float>;
using KindF64 = KindPlain<double>;

struct KindWiden {
  using Accumulator = float;
  using Vector = FloatVector;
  using Left = float;
  static constexpr int kDepth = 2;
  static constexpr int kLeftRows = 2;
  template <int R, int NV>
  LORIKEET_INLINE static void step(Vector (&sum)[R][NV], const Left* left, const Vector* right) {
    const auto* pairs = reinterpret_cast<const WordVector*>(right);
    Vector b[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = (Vector)(pairs[j] << 16);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      Vector a = splat(left[i]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = multiply_add(a, b[j], sum[i][j]);
    }
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = (Vector)(pairs[j] & 0xffff0000u);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      Vector a = splat(left[kRows + i]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = multiply_add(a, b[j], sum[i][j]);
    }
  }
};

#if defined(__AVX512BF16__)
struct KindPairs {
  using Accumulator = float;
  using Vector = FloatVector;
  using Left = uint32_t;
  static constexpr int kDepth = 2;
  static constexpr int kLeftRows = 1;
  template <int R, int NV>
  LORIKEET_INLINE static void step(Vector (&sum)[R][NV], const Left* left, const Vector* right) {
    __m512bh b[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) b[j] = (__m512bh)right[j];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      __m512bh a = (__m512bh)_mm512_set1_epi32(static_cast<int>(left[i]));
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = (Vector)_mm512_dpbf16_ps((__m512)sum[i][j], a, b[j]);
    }
  }
};
#endif

using Micro = void (*)(int64_t steps, const void* left, const void* right, void* tile, bool accumulate);

template <class Kind, int R, int NV>
void micro(int64_t steps, const void* left_block, const void* right_panel, void* tile_memory, bool accumulate) {
  using Vector = typename Kind::Vector;
  const auto* left = static_cast<const typename Kind::Left*>(left_block);
  const auto* right = static_cast<const Vector*>(right_panel);
  auto* tile = static_cast<Vector*>(tile_memory);
  Vector sum[R][NV];
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = tile[i * 2 + j];
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[i][j] = Vector{};
    }
  }
  for (int64_t step = 0; step < steps; ++step) {
    Kind::template step<R, NV>(sum, left, right);
    left += kRows * Kind::kLeftRows;
    right += NV;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) tile[i * 2 + j] = sum[i][j];
  }
}

/// The register block for `rows` rows (1 to kRows).
template <class Kind, int NV, int R = kRows>
Micro micro_for(int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return micro_for<Kind, NV, R - 1>(rows);
  }
  return micro<Kind, R, NV>;
}

/// Steps of a Kind over a contraction of length k.
template <class Kind>
constexpr int64_t steps_of(int64_t k) {
  return (k + Kind::kDepth - 1) / Kind::kDepth;
}

}  // namespace lorikeet::LORIKEET_LEVEL
