#pragma once

// A slice of a panel of a quantised right operand: kQuantizedGroup steps of the contraction of two vectors of outputs, for products that
// use it at once and few times. The bits are those of the panel (quantized-panels.h).

#include "cpu/gemm-pack.h"
#include "cpu/quantized-groups.h"
#include "cpu/quantized-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Bytes of the largest slice: f32.
inline constexpr int64_t kSliceBytes = kQuantizedGroup * 2 * kVectorBytes;

/// The rows of a panel; those past the end repeat the last one.
struct PanelRows {
  int64_t index[2 * kVector];
  const uint8_t* codes[2 * kVector];

  LORIKEET_INLINE void set(const QuantizedMatrix& w, int64_t first) {
    for (int i = 0; i < 2 * kVector; ++i) {
      index[i] = smaller(first + i, w.rows - 1);
      codes[i] = w.codes + index[i] * w.row_bytes;
    }
  }
};

#if defined(__AVX512F__)
using SignedVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int32_t;

/// The words at `offset` of 16 blocks, one a row that begins at rows(i): words[c] holds word c of every row.
template <class Rows>
LORIKEET_INLINE void turned_words(const Rows& rows, int64_t offset, __m512i (&words)[4]) {
  __m512i part[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto load = [&](int row) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows(row) + offset));
    };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(i + 4), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i + 8)), load(i + 12), 1);
    part[i] = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);
  }
  const __m512i a = _mm512_maskz_unpacklo_epi32(0xffff, part[0], part[1]), b = _mm512_maskz_unpacklo_epi32(0xffff, part[2], part[3]);
  const __m512i c = _mm512_maskz_unpackhi_epi32(0xffff, part[0], part[1]), d = _mm512_maskz_unpackhi_epi32(0xffff, part[2], part[3]);
  words[0] = _mm512_maskz_unpacklo_epi64(0xff, a, b);
  words[1] = _mm512_maskz_unpackhi_epi64(0xff, a, b);
  words[2] = _mm512_maskz_unpacklo_epi64(0xff, c, d);
  words[3] = _mm512_maskz_unpackhi_epi64(0xff, c, d);
}

/// The halves in the low (or high) parts of 16 words as floats.
LORIKEET_INLINE __m512 halves(__m512i words) { return _mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, words)); }

/// Nibbles as in Q4_0 and Q4_1, of 16 rows. A nibble becomes a float where it stands in its word, 16^place times too large, and the scale
/// is as much smaller: both are exact, and so is the product, to which the minimum is added in the same step.
template <class Block, bool Shifted>
struct TurnedNibbles {
  static constexpr int64_t kColumns = Block::kBlock;
  __m512i codes[4];
  FloatVector scale, shift;

  /// From word 0 and the four words of nibbles of the rows.
  LORIKEET_INLINE void set(__m512i head, const __m512i* words) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) codes[i] = words[i];
    scale = (FloatVector)halves(head);
    if constexpr (Shifted) {
      shift = (FloatVector)halves((__m512i)((WordVector)head >> 16));
    } else {
      shift = scale * -8.0f;
    }
  }

  /// The block that begins with column `first` of 16 rows.
  template <class Rows>
  LORIKEET_INLINE void read(const Rows& rows, int64_t first) {
    const int64_t block = first / Block::kBlock * Block::kBytes;
    __m512i head[4], words[4];
    turned_words(rows, block, head);
    turned_words(rows, block + Block::kBytes - 16, words);
    set(head[0], words);
  }

  /// Column j of the block.
  LORIKEET_INLINE __m512 value(int j) const {
    const int place = 2 * (j % 4) + j / 16;
    const auto code = (__m512i)((WordVector)codes[j % 16 / 4] & 15u << (4 * place));
    const float smaller = 1.0f / static_cast<float>(1u << (4 * place));
    return _mm512_fmadd_ps((__m512)(scale * smaller), _mm512_maskz_cvtepu32_ps(0xffff, code), (__m512)shift);
  }
};

struct TurnedBytes {
  static constexpr int64_t kColumns = Q8_0::kBlock;
  __m512i codes[8];
  __m512 scale;

  template <class Rows>
  LORIKEET_INLINE void read(const Rows& rows, int64_t first) {
    const int64_t block = first / Q8_0::kBlock * Q8_0::kBytes;
    __m512i words[4];
    turned_words(rows, block, words);
    scale = halves(words[0]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      turned_words(rows, block + 2 + 16 * half, words);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) codes[4 * half + c] = words[c];
    }
  }

  LORIKEET_INLINE __m512 value(int j) const {
    const auto code = (__m512i)((SignedVector)((WordVector)codes[j / 4] << (24 - 8 * (j % 4))) >> 24);
    return _mm512_mul_ps(scale, _mm512_maskz_cvtepi32_ps(0xffff, code));
  }
};

/// A group of 16 rows of a format in registers, for the formats that have one.
template <class Groups>
struct TurnedGroupOf {
  using Type = void;
};
template <>
struct TurnedGroupOf<GgufGroups<Q4_0>> {
  using Type = TurnedNibbles<Q4_0, false>;
};
template <>
struct TurnedGroupOf<GgufGroups<Q4_1>> {
  using Type = TurnedNibbles<Q4_1, true>;
};
template <>
struct TurnedGroupOf<GgufGroups<Q8_0>> {
  using Type = TurnedBytes;
};
template <class Groups>
using TurnedGroup = typename TurnedGroupOf<Groups>::Type;
#endif

/// values[column][2 * kVector] = `count` columns from `first` on of kVector rows from place `from` on.
template <class Groups>
LORIKEET_INLINE void turned_group(const QuantizedMatrix& w, const PanelRows& rows, int from, int64_t first, int64_t count, float* values) {
#if defined(__AVX512F__)
  if constexpr (!__is_same(TurnedGroup<Groups>, void)) {
    TurnedGroup<Groups> group;
    group.read(
        [&](int i) __attribute__((always_inline)) { return rows.codes[from + i]; }, first);
#pragma GCC unroll 32
    for (int j = 0; j < kQuantizedGroup; ++j) _mm512_store_ps(values + j * 2 * kVector, group.value(j));
    return;
  }
#endif
  alignas(64) float lines[kVector][kQuantizedGroup];
  for (int i = 0; i < kVector; ++i) Groups::group(w, rows.index[from + i], first, count, lines[i]);
  for (int64_t begin = 0; begin < count; begin += kVector) {
    WordSquare square;
    for (int64_t i = 0; i < kVector; ++i) memcpy(square.rows[i], lines[i] + begin, kVector * sizeof(float));
    transpose_square(square);
    for (int64_t i = 0; i < smaller(kVector, count - begin); ++i) {
      memcpy(values + (begin + i) * 2 * kVector, square.rows[i], kVector * sizeof(float));
    }
  }
}

/// The slice of the rows of a panel and `count` columns from `first` on, a multiple of kQuantizedGroup. `out` has kSliceBytes.
template <class Groups>
LORIKEET_INLINE void slice_of(const QuantizedMatrix& w, Panel panel, const PanelRows& rows, int64_t first, int64_t count, void* out) {
  if (panel == Panel::f32) {
    for (int side = 0; side < 2; ++side)
      turned_group<Groups>(w, rows, side * kVector, first, count, static_cast<float*>(out) + side * kVector);
    return;
  }
  alignas(64) float values[kQuantizedGroup * 2 * kVector];
  for (int side = 0; side < 2; ++side) turned_group<Groups>(w, rows, side * kVector, first, count, values + side * kVector);
  for (int64_t j = count * 2 * kVector; count % 2 != 0 && j < (count + 1) * 2 * kVector; ++j) values[j] = 0;
  auto* words = static_cast<uint32_t*>(out);
  for (int64_t step = 0; step < (count + 1) / 2; ++step) {
    const float *low = values + 2 * step * 2 * kVector, *high = low + 2 * kVector;
    for (int j = 0; j < 2 * kVector; ++j) words[step * 2 * kVector + j] = pair_of(to_bf16(low[j]), to_bf16(high[j]));
  }
}

inline void quantized_slice(const QuantizedMatrix& w, Panel panel, const PanelRows& rows, int64_t first, int64_t count, void* out) {
  LORIKEET_QUANTIZATION_SWITCH(w.format, Groups, slice_of<Groups>(w, panel, rows, first, count, out))
}

}  // namespace lorikeet::LORIKEET_LEVEL
