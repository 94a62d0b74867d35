#pragma once

// A slice of a panel of a quantised right operand: kQuantizedGroup steps of the contraction of two vectors of outputs, for products that
// use it at once and few times, and for panels of blocks that lie in groups. The bits are those of the panel (quantized-panels.h).

#include "cpu/gemm-pack.h"
#include "cpu/integers.h"
#include "cpu/quantized-groups.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Bytes of the largest slice: f32.
inline constexpr int64_t kSliceBytes = kQuantizedGroup * 2 * kVectorBytes;

/// The rows of a panel; those past the end repeat the last one.
struct PanelRows {
  int64_t index[2 * kVector];

  LORIKEET_INLINE void set(const QuantizedMatrix& w, int64_t first) {
    for (int i = 0; i < 2 * kVector; ++i) index[i] = smaller(first + i, w.rows - 1);
  }
};

#if defined(__AVX512F__)
using SignedVector [[gnu::vector_size(kVectorBytes), gnu::may_alias]] = int32_t;
static_assert(2 * kVector == kRowGroup);

/// 16 halves as floats.
LORIKEET_INLINE __m512 halves(const uint8_t* p) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

LORIKEET_INLINE __m512i line(const uint8_t* p) { return _mm512_loadu_si512(p); }

/// Nibbles as in Q4_0 and Q4_1, of 16 rows. A nibble becomes a float where it stands in its word, 16^place times too large, and the scale
/// is as much smaller: both are exact, and so is the product, to which the minimum is added in the same step.
template <class Block, bool Shifted>
struct TurnedNibbles {
  static constexpr int64_t kColumns = Block::kBlock, kBytes = Block::kBytes;
  __m512i codes[4];
  FloatVector scale, shift;

  /// One side of the blocks of a group of rows.
  LORIKEET_INLINE void read(const uint8_t* blocks, int side) {
    const uint8_t *half = blocks + 32 * side, *words = blocks + 64 * kParts<Block>.halves + 64 * side;
    scale = (FloatVector)halves(half);
    shift = Shifted ? (FloatVector)halves(half + 64) : scale * -8.0f;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) codes[i] = line(words + 128 * i);
  }

  /// Column j of the blocks.
  LORIKEET_INLINE __m512 value(int j) const {
    const int place = 2 * (j % 4) + j / 16;
    const auto code = (__m512i)((WordVector)codes[j % 16 / 4] & 15u << (4 * place));
    const float smaller = 1.0f / static_cast<float>(1u << (4 * place));
    return _mm512_fmadd_ps((__m512)(scale * smaller), _mm512_maskz_cvtepu32_ps(0xffff, code), (__m512)shift);
  }
};

/// The same for the bytes of Q8_0, whose products with the scale are exact.
struct TurnedBytes {
  static constexpr int64_t kColumns = Q8_0::kBlock, kBytes = Q8_0::kBytes;
  __m512i codes[8];
  FloatVector scale;

  LORIKEET_INLINE void read(const uint8_t* blocks, int side) {
    scale = (FloatVector)halves(blocks + 32 * side);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) codes[i] = line(blocks + 64 + 128 * i + 64 * side);
  }

  LORIKEET_INLINE __m512 value(int j) const {
    const auto code = (__m512i)((SignedVector)((WordVector)codes[j / 4] << (24 - 8 * (j % 4))) >> 24);
    return _mm512_mul_ps((__m512)scale, _mm512_maskz_cvtepi32_ps(0xffff, code));
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

/// values[column][2 * kVector] = `count` columns from `first` on of the rows of a panel.
template <class Groups>
LORIKEET_INLINE void turned_group(const QuantizedMatrix& w, const PanelRows& rows, int64_t first, int64_t count, float* values) {
#if defined(__AVX512F__)
  if constexpr (!__is_same(TurnedGroup<Groups>, void)) {
    if (rows.index[2 * kVector - 1] < w.grouped_rows) {
      using Group = TurnedGroup<Groups>;
      for (int side = 0; side < 2; ++side) {
        Group group;
        group.read(grouped_blocks(w, rows.index[0], first, Group::kBytes), side);
#pragma GCC unroll 32
        for (int j = 0; j < kQuantizedGroup; ++j) _mm512_store_ps(values + j * 2 * kVector + side * kVector, group.value(j));
      }
      return;
    }
  }
#endif
  for (int from = 0; from < 2 * kVector; from += kVector) {
    alignas(64) float lines[kVector][kQuantizedGroup];
    for (int i = 0; i < kVector; ++i) Groups::group(w, rows.index[from + i], first, count, lines[i]);
    for (int64_t begin = 0; begin < count; begin += kVector) {
      WordSquare square;
      for (int64_t i = 0; i < kVector; ++i) memcpy(square.rows[i], lines[i] + begin, kVector * sizeof(float));
      transpose_square(square);
      for (int64_t i = 0; i < smaller(kVector, count - begin); ++i) {
        memcpy(values + (begin + i) * 2 * kVector + from, square.rows[i], kVector * sizeof(float));
      }
    }
  }
}

/// The slice of the rows of a panel and `count` columns from `first` on, a multiple of kQuantizedGroup. `out` has kSliceBytes.
template <class Groups>
LORIKEET_INLINE void slice_of(const QuantizedMatrix& w, Panel panel, const PanelRows& rows, int64_t first, int64_t count, void* out) {
  if (panel == Panel::f32) {
    turned_group<Groups>(w, rows, first, count, static_cast<float*>(out));
    return;
  }
  alignas(64) float values[kQuantizedGroup * 2 * kVector];
  turned_group<Groups>(w, rows, first, count, values);
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
