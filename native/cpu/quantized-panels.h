#pragma once

// Panels of a quantised right operand, made when a product wants them; layouts in ops/gemm.h, bits those of packing the dequantised matrix.

#include "cpu/gemm-pack.h"
#include "cpu/integers.h"
#include "cpu/quantized-groups.h"
#include "cpu/quantized-slices.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Columns of a slice: 32 rows of it fit half a level-1 cache.
inline constexpr int64_t kSliceColumns = 128;

/// Panel over rows [first, first + width) of the matrix, contraction over its columns: slices of rows are turned in registers.
template <class Groups>
void rows_panel(const QuantizedMatrix& w, Panel panel, int64_t first, int64_t width, void* out) {
  const int64_t depth = panel == Panel::bf16 ? 2 : 1;
  if (first + width <= w.grouped_rows) {
    PanelRows rows;
    rows.set(w, first);
    for (int64_t begin = 0; begin < w.columns; begin += kQuantizedGroup) {
      slice_of<Groups>(w, panel, rows, begin, kQuantizedGroup, static_cast<uint32_t*>(out) + begin / depth * width);
    }
    return;
  }
  alignas(64) float slice[2 * kVector * kSliceColumns];
  const int64_t rows = smaller(width, w.rows - first);
  for (int64_t begin = 0; begin < w.columns; begin += kSliceColumns) {
    const int64_t columns = smaller(kSliceColumns, w.columns - begin);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < columns; group += kQuantizedGroup) {
        Groups::group(w, first + row, begin + group, smaller(kQuantizedGroup, columns - group), slice + row * kSliceColumns + group);
      }
    }
    pack_panel({slice, DType::f32, rows, columns, kSliceColumns, 1, 1.0, panel, 2, nullptr}, slice, rows, width,
               static_cast<uint32_t*>(out) + begin / depth * width);
  }
}

/// Panel over columns [first, first + width) of the matrix, contraction over its rows: a group of a row is what one step takes.
template <class Groups>
void columns_panel(const QuantizedMatrix& w, Panel panel, int64_t first, int64_t width, void* out) {
  alignas(64) float rows[2][kQuantizedGroup];
  const int64_t begin = first / kQuantizedGroup * kQuantizedGroup;
  const int64_t count = smaller(kQuantizedGroup, w.columns - begin);
  const int64_t columns = smaller(width, w.columns - first);
  const int depth = panel == Panel::bf16 ? 2 : 1;
  auto* words = static_cast<uint32_t*>(out);
  for (int64_t row = 0; row < w.rows; row += depth) {
    for (int side = 0; side < depth; ++side) {
      if (row + side < w.rows) {
        Groups::group(w, row + side, begin, count, rows[side]);
      } else {
        memset(rows[side], 0, sizeof rows[side]);
      }
    }
    const float *low = rows[0] + (first - begin), *high = rows[1] + (first - begin);
    if (depth == 1) {
      for (int64_t j = 0; j < columns; ++j) words[j] = float_to_bits(low[j]);
    } else if (columns == 2 * kVector) {
      for (int j = 0; j < 2 * kVector; ++j) words[j] = pair_of(to_bf16(low[j]), to_bf16(high[j]));
    } else {
      for (int64_t j = 0; j < columns; ++j) words[j] = pair_of(to_bf16(low[j]), to_bf16(high[j]));
    }
    for (int64_t j = columns; j < width; ++j) words[j] = 0;
    words += width;
  }
}

/// Panel `p` (two vectors wide) of W, or `turned` of its transpose.
LORIKEET_INLINE void quantized_panel(const QuantizedMatrix& w, bool turned, Panel panel, int64_t p, void* out) {
  const int64_t width = panel_width(kThisLevel, panel, 2);
  LORIKEET_QUANTIZATION_SWITCH(
      w.format, Groups,
      if (turned) { columns_panel<Groups>(w, panel, p * width, width, out); } else { rows_panel<Groups>(w, panel, p * width, width, out); })
}

}  // namespace lorikeet::LORIKEET_LEVEL
