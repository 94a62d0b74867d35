#pragma once

// Codes of GGUF blocks on their way to products: panels (layout in codes-micro.h) that many rows share, and for a few rows the blocks
// themselves, where they lie in groups of rows. A lane holds four codes of an output either way.

#include <cstring>

#include "cpu/codes-micro.h"
#include "cpu/integers.h"
#include "cpu/quantized-slices.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kCodeWidth = 2 * kVector;

/// Bytes of a panel of `columns` columns.
template <class Block>
LORIKEET_INLINE int64_t code_panel_bytes(int64_t columns) {
  return columns / kQuantizedGroup * FormOf<Block>::kGroupVectors * kVectorBytes;
}

#if defined(__AVX512F__)
/// The codes of one group of 16 rows, word by word: blocks at `group`, the rows of `side` of the two vectors.
template <class Block>
struct GroupedCodes {
  const uint8_t* group;
  int side;

  LORIKEET_INLINE FloatVector scale() const { return (FloatVector)halves(group + 32 * side); }
  LORIKEET_INLINE FloatVector shift() const { return (FloatVector)halves(group + 64 + 32 * side); }
  /// Columns 4 i to 4 i + 3.
  LORIKEET_INLINE IntVector word(int i) const {
    const uint8_t* words = group + 64 * kParts<Block>.halves + 64 * side;
    if constexpr (__is_same(Block, Q8_0)) {
      return (IntVector)((WordVector)line(words + 128 * i) ^ 0x80808080u);
    } else {
      const auto nibbles = (WordVector)line(words + 128 * (i % 4));
      return (IntVector)((i < 4 ? nibbles : nibbles >> 4) & 0x0f0f0f0fu);
    }
  }
};

/// tile [R][2] = R rows times the kRowGroup rows of W whose blocks begin at `group`; the chains are those of codes_rows. W is one stream,
/// which the machine fetches ahead by itself: asking for it as well costs time.
template <class Block, int R>
LORIKEET_INLINE void grouped_rows(const RoundedRows& left, const uint8_t* group, FloatVector* tile) {
  using Form = FormOf<Block>;
  constexpr int64_t kGroupBytes = kRowGroup * Block::kBytes;
  FloatVector total[R][2] = {};
  for (int64_t block = 0; block < left.count; ++block, group += kGroupBytes) {
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side) {
      const GroupedCodes<Block> codes{group, side};
      IntVector sum[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r] = splat(left.groups[r * left.count + block].start[0]);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const IntVector word = codes.word(i);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          sum[r] = code_dot<Form::kWide>(sum[r], word, four_codes(left.codes + r * left.row_bytes + block * kQuantizedGroup + 4 * i));
        }
      }
      const FloatVector scale = codes.scale();
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const RoundedGroup& x = left.groups[r * left.count + block];
        total[r][side] = multiply_add(as_floats(sum[r]), scale * splat(x.scale), total[r][side]);
        if constexpr (Form::kShifted) total[r][side] = multiply_add(codes.shift(), splat(x.sum), total[r][side]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    tile[2 * r] = total[r][0];
    tile[2 * r + 1] = total[r][1];
  }
}
#endif

/// Rows that are multiplied with blocks as they lie.
inline constexpr int64_t kFewCodeRows = 4;

/// The tile of up to kFewCodeRows rows with the rows of W from `first` on without a panel, where that is possible; else false.
template <class Block>
LORIKEET_INLINE bool few_code_rows(const QuantizedMatrix& w, int64_t first, int64_t rows, const RoundedRows& left, void* tile) {
#if defined(__AVX512F__)
  if constexpr (kParts<Block>.words > 0) {
    if (first + kCodeWidth > w.grouped_rows) return false;
    const uint8_t* group = w.codes + first * w.row_bytes;
    auto* sums = static_cast<FloatVector*>(tile);
    switch (rows) {
      case 1: return grouped_rows<Block, 1>(left, group, sums), true;
      case 2: return grouped_rows<Block, 2>(left, group, sums), true;
      case 3: return grouped_rows<Block, 3>(left, group, sums), true;
      case 4: return grouped_rows<Block, 4>(left, group, sums), true;
      default: return false;
    }
  }
#endif
  (void)w, (void)first, (void)rows, (void)left, (void)tile;
  return false;
}

/// The panel over rows [first, first + kCodeWidth) of W, zeros past its end.
template <class Block>
void code_panel(const QuantizedMatrix& w, int64_t first, void* out) {
  using Form = FormOf<Block>;
  auto* vectors = static_cast<FloatVector*>(out);
  const int64_t rows = smaller(kCodeWidth, w.rows - first);
  for (int64_t column = 0; column < w.columns; column += kQuantizedGroup, vectors += Form::kGroupVectors) {
#if defined(__AVX512F__)
    if constexpr (kParts<Block>.words > 0) {
      if (first + kCodeWidth <= w.grouped_rows) {
        for (int side = 0; side < 2; ++side) {
          const GroupedCodes<Block> codes{grouped_blocks(w, first, column, Block::kBytes), side};
#pragma GCC unroll 8
          for (int i = 0; i < 8; ++i) vectors[2 * i + side] = (FloatVector)codes.word(i);
          vectors[16 + side] = codes.scale();
          if constexpr (Form::kShifted) vectors[18 + side] = codes.shift();
        }
        continue;
      }
    }
#endif
    auto* words = reinterpret_cast<char*>(vectors);
    auto* scales = reinterpret_cast<float*>(vectors + 16);
    if (rows < kCodeWidth) memset(vectors, 0, Form::kGroupVectors * kVectorBytes);
    for (int64_t row = 0; row < rows; ++row) {
      uint8_t codes[kQuantizedGroup];
      const CodeScales found = codes_of<Block>(w, first + row, column, codes);
      for (int i = 0; i < 8; ++i) memcpy(words + (i * kCodeWidth + row) * 4, codes + 4 * i, 4);
      for (int part = 0; part < Form::kScales; ++part) scales[part * kCodeWidth + row] = found.scale[part];
      if constexpr (Form::kShifted) scales[Form::kScales * kCodeWidth + row] = found.shift;
    }
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
