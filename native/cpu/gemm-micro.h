#pragma once

// Register blocks of the packed matrix product: tile[R][NV vectors] (+)= left rows · right panel, one step of the contraction (two for
// bf16 pairs) after the other. The left rows are read where they lie; a tile row is two vectors long whatever NV is.
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

/// A left operand as register blocks read it: word w of row i lies at data + i * row_stride + w * word_stride (bytes, any alignment).
struct LeftView {
  const char* data;
  int64_t row_stride, word_stride;
  LORIKEET_INLINE LeftView from_row(int64_t row) const { return {data + row * row_stride, row_stride, word_stride}; }
  LORIKEET_INLINE LeftView from_word(int64_t word) const { return {data + word * word_stride, row_stride, word_stride}; }
};

/// Left and right operands of one float type.
template <class Scalar>
struct KindPlain {
  using Accumulator = Scalar;
  using Vector = typename VectorOf<Scalar>::type;
  using Element = Scalar;           // of the left operand
  using Word = Scalar;              // what is read of it at once
  static constexpr int kDepth = 1;  // contraction elements eaten by a step
  static constexpr int kWords = 1;  // words eaten by a step
  LORIKEET_INLINE static Vector right(const Vector* panel, int) { return *panel; }
  LORIKEET_INLINE static Vector left(const char* p) {
    Word word;
    __builtin_memcpy(&word, p, sizeof word);
    return splat(word);
  }
  LORIKEET_INLINE static Vector multiply(Vector a, Vector b, Vector c) { return multiply_add(a, b, c); }
  using Row = Scalar;  // what whole rows of a tile are stored as
  LORIKEET_INLINE static void store(Vector a, Vector b, char* p) {
    __builtin_memcpy(p, &a, sizeof a);
    __builtin_memcpy(p + sizeof a, &b, sizeof b);
  }
};
using KindF32 = KindPlain<float>;
using KindF64 = KindPlain<double>;

struct KindWiden : KindF32 {
  static constexpr int kDepth = 2;
  static constexpr int kWords = 2;
  LORIKEET_INLINE static Vector right(const Vector* panel, int word) {
    const WordVector pairs = *reinterpret_cast<const WordVector*>(panel);
    return (Vector)(word == 0 ? pairs << 16 : pairs & 0xffff0000u);
  }
};

#if defined(__AVX512BF16__)
struct KindPairs {
  using Accumulator = float;
  using Vector = FloatVector;
  using Element = BFloat16;
  using Word = uint32_t;
  static constexpr int kDepth = 2;
  static constexpr int kWords = 1;
  LORIKEET_INLINE static Vector right(const Vector* panel, int) { return *panel; }
  LORIKEET_INLINE static Vector left(const char* p) {
    int word;
    __builtin_memcpy(&word, p, sizeof word);
    return (Vector)_mm512_set1_epi32(word);
  }
  LORIKEET_INLINE static Vector multiply(Vector a, Vector b, Vector c) {
    return (Vector)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }
  using Row = BFloat16;
  /// Rounds as to_bf16 does: sums of pairs are never subnormal, where the instruction would differ.
  LORIKEET_INLINE static void store(Vector a, Vector b, char* p) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
  }
};
#endif

/// One stretch of a contraction: left rows against a right panel.
struct Strip {
  int64_t steps;
  LeftView left;
  const void* right;
};

/// Built field by field: a view copied as one is read in vectors before its words have left the store queue, which waits until they have.
LORIKEET_INLINE Strip strip_of(int64_t steps, const LeftView& left, const void* right) {
  return {steps, {left.data, left.row_stride, left.word_stride}, right};
}

/// Memory to bring into cache while a register block runs: `stride` bytes further at every step of its first strip. Without data the tile
/// is touched: looking up an address that does not exist takes long.
struct Ahead {
  const char* data = nullptr;
  int64_t stride = 0;
};

/// Where sums begin and end. With `rows` (of Kind::Row or, `wide`, of Kind::Accumulator; whole tiles) they end there, else in the tile.
struct Sums {
  void* tile;
  bool accumulate;  // go on from the tile
  char* rows = nullptr;
  int64_t row_stride = 0;  // bytes
  bool wide = false;
};

using Micro = void (*)(const Strip* strips, int64_t count, const Sums& sums, Ahead ahead);

template <class Kind, int R, int NV>
void micro(const Strip* strips, int64_t count, const Sums& sums, Ahead ahead) {
  using Vector = typename Kind::Vector;
  auto* tile = static_cast<Vector*>(sums.tile);
  if (ahead.data == nullptr) ahead.data = static_cast<const char*>(sums.tile);
  Vector sum[R][NV];
  if (sums.accumulate) {
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
  constexpr bool kRowsOut = NV == 2;
  if (kRowsOut && sums.rows != nullptr) {
    // Into the level-2 cache: rows a power of two apart would push each other out of the level-1 cache before they are stored.
    constexpr int kRowBytes = NV * kVectorBytes / static_cast<int>(sizeof(typename Kind::Accumulator) / sizeof(typename Kind::Row));
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
      for (int byte = 0; byte < kRowBytes; byte += 64) __builtin_prefetch(sums.rows + i * sums.row_stride + byte, 0, 2);
    }
  }
  for (const Strip* strip = strips; strip < strips + count; ++strip) {
    const auto* right = static_cast<const Vector*>(strip->right);
    // A pointer for every three rows: the others are reached from it by the addressing modes of the machine.
    constexpr int kPointers = (R + 2) / 3;
    const int64_t row_stride = strip->left.row_stride, word_stride = strip->left.word_stride;
    const char* rows[kPointers];
#pragma GCC unroll 4
    for (int p = 0; p < kPointers; ++p) rows[p] = strip->left.data + 3 * p * row_stride;
    for (int64_t step = strip->steps; step > 0; --step) {
#pragma GCC unroll 2
      for (int word = 0; word < Kind::kWords; ++word) {
        Vector b[NV];
#pragma GCC unroll 2
        for (int j = 0; j < NV; ++j) b[j] = Kind::right(right + j, word);
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) {
          const Vector a = Kind::left(rows[i / 3] + i % 3 * row_stride);
#pragma GCC unroll 2
          for (int j = 0; j < NV; ++j) sum[i][j] = Kind::multiply(a, b[j], sum[i][j]);
        }
#pragma GCC unroll 4
        for (int p = 0; p < kPointers; ++p) {
          rows[p] += word_stride;
          asm("" : "+r"(rows[p]));  // keeps the compiler from one pointer for every row
        }
      }
      right += NV;
      __builtin_prefetch(ahead.data, 0, 2);
      ahead.data += ahead.stride;
    }
    ahead.stride = 0;
  }
  if constexpr (kRowsOut) {
    if (sums.rows != nullptr) {
      if constexpr (!__is_same(typename Kind::Row, typename Kind::Accumulator)) {
        if (sums.wide) {
#pragma GCC unroll 16
          for (int i = 0; i < R; ++i) __builtin_memcpy(sums.rows + i * sums.row_stride, sum[i], sizeof sum[i]);
          return;
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) Kind::store(sum[i][0], sum[i][1], sums.rows + i * sums.row_stride);
      return;
    }
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
