// Rows of a quantised matrix as floats, one task each some rows.

#include "cpu/level.h"

#include "cpu/integers.h"
#include "cpu/quantized-groups.h"
#include "cpu/row-tasks.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class Groups, class T>
void dequantize_row(const QuantizedMatrix& w, int64_t row, T* out) {
  for (int64_t first = 0; first < w.columns; first += kQuantizedGroup) {
    const int64_t count = w.columns - first < kQuantizedGroup ? w.columns - first : kQuantizedGroup;
    alignas(64) float values[kQuantizedGroup];
    Groups::group(w, row, first, count, values);
    for (int64_t j = 0; j < count; ++j) store(out + first + j, static_cast<compute_t<T>>(values[j]));
  }
}

/// Rows [first, end) of one group of rows into out [end - first, columns]. Blocks come back into rows some at a time: each line of a group
/// has a part of all its rows, and is read once.
template <class Block, class T>
void dequantize_group(const QuantizedMatrix& w, int64_t first, int64_t end, T* out) {
  constexpr int64_t kTogether = 8, kColumns = kTogether * Block::kBlock;
  uint8_t blocks[kRowGroup][kTogether * Block::kBytes];
  const int64_t group = first / kRowGroup * kRowGroup;
  for (int64_t column = 0; column < w.columns; column += kColumns, out += kColumns) {
    const int64_t count = smaller(kTogether, (w.columns - column) / Block::kBlock);
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* part = grouped_blocks(w, group, column + i * Block::kBlock, Block::kBytes);
      int64_t at = i * Block::kBytes;
      for (int64_t half = 0; half < kParts<Block>.halves; ++half, at += 2, part += 2 * kRowGroup) {
        for (int64_t row = 0; row < kRowGroup; ++row) __builtin_memcpy(blocks[row] + at, part + 2 * row, 2);
      }
      for (int64_t word = 0; word < kParts<Block>.words; ++word, at += 4, part += 4 * kRowGroup) {
        for (int64_t row = 0; row < kRowGroup; ++row) __builtin_memcpy(blocks[row] + at, part + 4 * row, 4);
      }
    }
    for (int64_t row = first; row < end; ++row) {
      for (int64_t i = 0; i < count; ++i) {
        alignas(64) float values[Block::kBlock];
        Block::values(blocks[row - group] + i * Block::kBytes, 0, values);
        T* target = out + (row - first) * w.columns + i * Block::kBlock;
        for (int64_t j = 0; j < Block::kBlock; ++j) store(target + j, static_cast<compute_t<T>>(values[j]));
      }
    }
  }
}

/// Rows [first, first + count), which lie in groups.
template <class T>
void dequantize_groups(const QuantizedMatrix& w, int64_t first, int64_t count, T* out) {
  const int64_t begin = first / kRowGroup, end = first + count;
  for_each_row(ceil_div(end, kRowGroup) - begin, kRowGroup * w.columns, [&](int64_t i) {
    const int64_t from = within((begin + i) * kRowGroup, first, end), to = smaller((begin + i + 1) * kRowGroup, end);
    T* target = out + (from - first) * w.columns;
    if (w.format == Quantization::q4_0) return dequantize_group<Q4_0>(w, from, to, target);
    if (w.format == Quantization::q4_1) return dequantize_group<Q4_1>(w, from, to, target);
    dequantize_group<Q8_0>(w, from, to, target);
  });
}

void dequantize(const DequantizeArgs& args) {
  const QuantizedMatrix& w = args.matrix;
  const int64_t grouped = args.index == nullptr && args.first < w.grouped_rows ? smaller(args.count, w.grouped_rows - args.first) : 0;
  if (grouped > 0) LORIKEET_FLOAT_SWITCH(args.out_dtype, T, dequantize_groups(w, args.first, grouped, static_cast<T*>(args.out)));
  for_each_row(args.count - grouped, w.columns, [&](int64_t i) {
    const int64_t row = args.index == nullptr ? args.first + grouped + i : args.index[i];
    LORIKEET_QUANTIZATION_SWITCH(
        w.format, Groups,
        LORIKEET_FLOAT_SWITCH(args.out_dtype, T, dequantize_row<Groups>(w, row, static_cast<T*>(args.out) + (grouped + i) * w.columns)))
  });
}

LORIKEET_KERNEL(dequantize_kernel, dequantize)

}  // namespace lorikeet::LORIKEET_LEVEL
