#pragma once

// Register block of products of 8-bit integers: tile[R][two vectors] = Σ over groups of (exact int32 sum of the group) * scale of the row's
// group, in rising order, then times the scale of the output. The int32 sums are the same at every level.

#include "cpu/int8-rows.h"

namespace lorikeet::LORIKEET_LEVEL {

using IntVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int32_t;

#if defined(__AVX512VNNI__)
/// Four right codes in every lane.
struct Int8Right {
  IntVector codes;
};
LORIKEET_INLINE Int8Right int8_right(IntVector codes) { return {codes}; }
LORIKEET_INLINE IntVector int8_start(const IntVector* sums) { return *sums; }
LORIKEET_INLINE IntVector int8_dot(IntVector sum, int32_t left, const Int8Right& right) {
  return (IntVector)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(left), (__m512i)right.codes);
}
#else
LORIKEET_INLINE IntVector int8_start(const IntVector*) { return IntVector{}; }
#if defined(__AVX512BW__)
// |b| times a with the sign of b: pairs of products stay within 2 * 128 * 127, which fits 16 bits.
struct Int8Right {
  __m512i magnitude;
  __mmask64 negative;
};
LORIKEET_INLINE Int8Right int8_right(IntVector codes) { return {_mm512_abs_epi8((__m512i)codes), _mm512_movepi8_mask((__m512i)codes)}; }
LORIKEET_INLINE IntVector int8_dot(IntVector sum, int32_t left, const Int8Right& right) {
  const __m512i a = _mm512_set1_epi32(left), turned = _mm512_mask_sub_epi8(a, right.negative, __m512i{}, a);
  return sum + (IntVector)_mm512_madd_epi16(_mm512_maddubs_epi16(right.magnitude, turned), _mm512_set1_epi16(1));
}
#elif defined(__AVX2__)
struct Int8Right {
  __m256i codes, magnitude;
};
LORIKEET_INLINE Int8Right int8_right(IntVector codes) { return {(__m256i)codes, _mm256_abs_epi8((__m256i)codes)}; }
LORIKEET_INLINE IntVector int8_dot(IntVector sum, int32_t left, const Int8Right& right) {
  const __m256i turned = _mm256_sign_epi8(_mm256_set1_epi32(left), right.codes);
  return sum + (IntVector)_mm256_madd_epi16(_mm256_maddubs_epi16(right.magnitude, turned), _mm256_set1_epi16(1));
}
#else
struct Int8Right {
  int8_t codes[kVectorBytes];
};
LORIKEET_INLINE Int8Right int8_right(IntVector codes) {
  Int8Right right;
  memcpy(right.codes, &codes, sizeof right.codes);
  return right;
}
LORIKEET_INLINE IntVector int8_dot(IntVector sum, int32_t left, const Int8Right& right) {
  int8_t a[4];
  memcpy(a, &left, sizeof a);
  for (int lane = 0; lane < kVector; ++lane) {
    const int8_t* b = right.codes + 4 * lane;
    sum[lane] += a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
  }
  return sum;
}
#endif
#endif

/// Rows whose sums of a group and totals over groups fit the registers together.
inline constexpr int kInt8Rows = kRows / 2;

/// The part of a tile that stays in registers from the first group to the last: R <= kInt8Rows rows.
template <int R>
LORIKEET_INLINE void int8_rows(int64_t k, const Int8Rows& left, const IntVector* right, const FloatVector* output, FloatVector* tile) {
  constexpr int kPointers = (R + 2) / 3;  // one for every three rows: the others are reached by the addressing modes of the machine
  const uint8_t* rows[kPointers];
  for (int i = 0; i < kPointers; ++i) rows[i] = left.codes + 3 * i * left.row_stride;
  const float* scales[kPointers];
  for (int i = 0; i < kPointers; ++i) scales[i] = left.scales + 3 * i * left.groups;
  const int64_t row_stride = left.row_stride, groups = left.groups;
  FloatVector total[R][2] = {};
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t rest = k - group * kInt8Group;
    const int64_t steps = rest < kInt8Group ? (rest + 3) / 4 : kInt8Group / 4;
    IntVector sum[R][2];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      sum[i][0] = int8_start(right);
      sum[i][1] = int8_start(right + 1);
    }
    right += 2;
    for (int64_t step = 0; step < steps; ++step, right += 2) {
      const Int8Right b0 = int8_right(right[0]), b1 = int8_right(right[1]);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        int32_t word;
        __builtin_memcpy(&word, rows[i / 3] + i % 3 * row_stride, sizeof word);
        sum[i][0] = int8_dot(sum[i][0], word, b0);
        sum[i][1] = int8_dot(sum[i][1], word, b1);
      }
#pragma GCC unroll 6
      for (int i = 0; i < kPointers; ++i) {
        rows[i] += 4;
        asm("" : "+r"(rows[i]));  // keeps the compiler from one pointer for every row, which would cost registers
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const FloatVector scale = splat(scales[i / 3][i % 3 * groups]);
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) total[i][j] = multiply_add(__builtin_convertvector(sum[i][j], FloatVector), scale, total[i][j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < kPointers; ++i) {
      ++scales[i];
      asm("" : "+r"(scales[i]));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) tile[i * 2 + j] = output == nullptr ? total[i][j] : total[i][j] * output[j];
  }
}

template <int R>
void int8_micro(int64_t k, const Int8Rows& left, const void* panel, const float* output_scales, void* tile_memory) {
  constexpr int kFirst = R <= kInt8Rows ? R : kInt8Rows;
  const auto* right = static_cast<const IntVector*>(panel);
  const auto* output = reinterpret_cast<const FloatVector*>(output_scales);
  auto* tile = static_cast<FloatVector*>(tile_memory);
  int8_rows<kFirst>(k, left, right, output, tile);
  if constexpr (R > kFirst) {
    const Int8Rows rest{left.codes + kFirst * left.row_stride, left.scales + kFirst * left.groups, left.row_stride, left.groups};
    int8_rows<R - kFirst>(k, rest, right, output, tile + 2 * kFirst);
  }
}

using Int8Micro = void (*)(int64_t, const Int8Rows&, const void*, const float*, void*);

/// The register block for `rows` rows (1 to kRows).
template <int R = kRows>
LORIKEET_INLINE Int8Micro int8_micro_for(int64_t rows) {
  if constexpr (R == 1) {
    return int8_micro<1>;
  } else {
    return rows == R ? int8_micro<R> : int8_micro_for<R - 1>(rows);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
