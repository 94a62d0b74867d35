#pragma once

// Register block of products of the codes of GGUF blocks with rows of 8-bit integers: tile[R][two vectors] = Σ over groups of 32 columns,
// in rising order, of (exact int32 sum of the products) * scale of the weight * scale of the row + shift of the weight * sum of the row.
// The int32 sums are the same at every level.

#include "cpu/block-codes.h"
#include "cpu/gemm-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

using IntVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int32_t;

/// What register blocks know of a format. Wide: codes have all eight bits.
template <int Scales, bool Shifted, bool Wide>
struct CodeForm {
  static constexpr int kScales = Scales;
  static constexpr bool kShifted = Shifted, kWide = Wide;
  /// Vectors of one group of a panel: [8][2] of codes (four columns of an output in a lane), [kScales][2] scales, [2] shifts if there are.
  static constexpr int kGroupVectors = 2 * (8 + Scales + (Shifted ? 1 : 0));
};
template <class Block>
using FormOf = CodeForm<BlockCodes<Block>::kScales, BlockCodes<Block>::kShifted, __is_same(Block, Q8_0)>;

/// One group of a row: what a code is worth, that times the sum of the codes, and -kOffset times the sums of the codes that share a scale
/// of the weight.
struct RoundedGroup {
  float scale, sum;
  int32_t start[2];
};

/// Rows of signed codes: of row i at codes + i * row_bytes, its groups at groups + i * count.
struct RoundedRows {
  const int8_t* codes;
  const RoundedGroup* groups;
  int64_t row_bytes, count;
};

/// sum + products of four unsigned codes a lane with four signed ones.
template <bool Wide>
LORIKEET_INLINE IntVector code_dot(IntVector sum, IntVector codes, int32_t left) {
#if defined(__AVX512VNNI__)
  return (IntVector)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, _mm512_set1_epi32(left));
#elif defined(__AVX512BW__)
  // Pairs of products fit 16 bits when codes have seven: an eighth is multiplied on its own.
  const __m512i a = _mm512_set1_epi32(left), ones = _mm512_set1_epi16(1);
  if constexpr (Wide) {
    const __m512i top = _mm512_maddubs_epi16((__m512i)((WordVector)codes & 0x80808080u), a);
    sum += (IntVector)_mm512_madd_epi16(top, ones);
    codes &= 0x7f7f7f7f;
  }
  return sum + (IntVector)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)codes, a), ones);
#elif defined(__AVX2__)
  const __m256i a = _mm256_set1_epi32(left), ones = _mm256_set1_epi16(1);
  if constexpr (Wide) {
    const __m256i top = _mm256_maddubs_epi16((__m256i)((WordVector)codes & 0x80808080u), a);
    sum += (IntVector)_mm256_madd_epi16(top, ones);
    codes &= 0x7f7f7f7f;
  }
  return sum + (IntVector)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)codes, a), ones);
#else
  int8_t a[4];
  uint8_t b[kVectorBytes];
  __builtin_memcpy(a, &left, sizeof a);
  __builtin_memcpy(b, &codes, sizeof b);
  for (int lane = 0; lane < kVector; ++lane) {
    const uint8_t* c = b + 4 * lane;
    sum[lane] += a[0] * c[0] + a[1] * c[1] + a[2] * c[2] + a[3] * c[3];
  }
  return sum;
#endif
}

LORIKEET_INLINE IntVector splat(int32_t a) { return IntVector{} + a; }
LORIKEET_INLINE FloatVector as_floats(IntVector a) { return __builtin_convertvector(a, FloatVector); }

LORIKEET_INLINE int32_t four_codes(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return word;
}

/// Rows whose sums of a group and totals over groups fit the registers together.
inline constexpr int kCodeRows = kRows / 2;

template <class Form, int R>
LORIKEET_INLINE void codes_rows(const RoundedRows& left, const FloatVector* panel, FloatVector* tile) {
  constexpr int kPointers = (R + 2) / 3;  // one for every three rows: the others are reached by the addressing modes of the machine
  constexpr int kSteps = 8 / Form::kScales;
  const int8_t* rows[kPointers];
  const RoundedGroup* groups[kPointers];
  for (int i = 0; i < kPointers; ++i) rows[i] = left.codes + 3 * i * left.row_bytes;
  for (int i = 0; i < kPointers; ++i) groups[i] = left.groups + 3 * i * left.count;
  const int64_t row_bytes = left.row_bytes, count = left.count;
  FloatVector total[R][2] = {};
  for (int64_t group = 0; group < count; ++group, panel += Form::kGroupVectors) {
    const FloatVector* scales = panel + 16;
#pragma GCC unroll 2
    for (int part = 0; part < Form::kScales; ++part) {
      IntVector sum[R][2];
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) sum[i][0] = sum[i][1] = splat((groups[i / 3] + i % 3 * count)->start[part]);
#pragma GCC unroll 8
      for (int step = 0; step < kSteps; ++step) {
        const auto* right = reinterpret_cast<const IntVector*>(panel) + 2 * (part * kSteps + step);
        const IntVector b0 = right[0], b1 = right[1];
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) {
          const int32_t word = four_codes(rows[i / 3] + i % 3 * row_bytes + 4 * (part * kSteps + step));
          sum[i][0] = code_dot<Form::kWide>(sum[i][0], b0, word);
          sum[i][1] = code_dot<Form::kWide>(sum[i][1], b1, word);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const FloatVector scale = splat((groups[i / 3] + i % 3 * count)->scale);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) total[i][j] = multiply_add(as_floats(sum[i][j]), scales[2 * part + j] * scale, total[i][j]);
      }
    }
    if constexpr (Form::kShifted) {
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const FloatVector sum = splat((groups[i / 3] + i % 3 * count)->sum);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) total[i][j] = multiply_add(scales[2 * Form::kScales + j], sum, total[i][j]);
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kPointers; ++i) {
      rows[i] += kQuantizedGroup;
      ++groups[i];
      asm("" : "+r"(rows[i]), "+r"(groups[i]));  // keeps the compiler from one pointer for every row, which would cost registers
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) tile[i * 2 + j] = total[i][j];
  }
}

template <class Form, int R>
void codes_micro(const RoundedRows& left, const void* panel, void* tile) {
  constexpr int kFirst = R <= kCodeRows ? R : kCodeRows;
  const auto* right = static_cast<const FloatVector*>(panel);
  auto* rows = static_cast<FloatVector*>(tile);
  codes_rows<Form, kFirst>(left, right, rows);
  if constexpr (R > kFirst) {
    const RoundedRows rest{left.codes + kFirst * left.row_bytes, left.groups + kFirst * left.count, left.row_bytes, left.count};
    codes_rows<Form, R - kFirst>(rest, right, rows + 2 * kFirst);
  }
}

using CodesMicro = void (*)(const RoundedRows&, const void*, void*);

/// The register block for `rows` rows (1 to kRows).
template <class Form, int R = kRows>
LORIKEET_INLINE CodesMicro codes_micro_for(int64_t rows) {
  if constexpr (R == 1) {
    return codes_micro<Form, 1>;
  } else {
    return rows == R ? codes_micro<Form, R> : codes_micro_for<Form, R - 1>(rows);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
