#pragma once

// What products of rows in 8-bit integers share: the memory of their rows, low-rank terms, which see x itself, and tiles of f32 sums on
// their way out.

#include "cpu/gemm-low-rank.h"
#include "cpu/integers.h"
#include "cpu/output-rows.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kCodeBytes = 16 << 20;        // rows of codes in flight
inline constexpr int64_t kCodeGroupBytes = 256 << 10;  // of them, read in one go: they stay in a level-2 cache

/// Bytes from row to row of codes: with a cache line between, as rows a power of two apart would share one set of the first cache.
LORIKEET_INLINE int64_t code_row_bytes(int64_t k) { return (k + 63) / 64 * 64 + 64; }

/// A whole row of a tile.
template <class T>
LORIKEET_INLINE void write_whole_row(const float* source, const float* bias, T* target) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    auto low = *reinterpret_cast<const FloatVector*>(source), high = *reinterpret_cast<const FloatVector*>(source + kVector);
    if (bias != nullptr) {
      low += *reinterpret_cast<const FloatVector*>(bias);
      high += *reinterpret_cast<const FloatVector*>(bias + kVector);
    }
    return KindPairs::store(low, high, reinterpret_cast<char*>(target));
  }
#endif
  write_row<2 * kVector>(source, bias, target, 2 * kVector);
}

/// Extra is the kind of the low-rank terms, BlockRows the rows of a block.
template <class Extra, int64_t BlockRows>
struct RoundedOutput {
  static constexpr int64_t kWidth = 2 * kVector;

  const GemmArgs& args;
  const BlockTerms terms;  // in parts that end with every kRows rows of a block
  const WideBias<float> bias;
  const Scratch packed_z;

  explicit RoundedOutput(const GemmArgs& of)
      : args(of), terms(of, BlockRows, left_bytes<Extra>, kRows), bias(of), packed_z(terms.packed_bytes()) {}

  int64_t rows_of(int64_t block) const { return within(args.m - block * BlockRows, 0, BlockRows); }

  /// At most kRows rows as the terms read them: where they lie, if they are stored so, else copied to `memory`.
  LeftView floats_of(int64_t row, int64_t rows, void* memory) const {
    LeftView left{};
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + row * args.x_row_stride;
      const int64_t row_bytes = args.x_row_stride * static_cast<int64_t>(sizeof(T));
      const bool stored_so = __is_same(T, typename Extra::Element) && args.k % Extra::kDepth == 0;
      if (args.x_column_stride != 1) {
        left = copy_left<Extra>(memory, x, args.x_row_stride, args.x_column_stride, rows, args.k);
      } else if (stored_so) {
        left = {reinterpret_cast<const char*>(x), row_bytes, sizeof(typename Extra::Word)};
      } else {
        left = copy_left_rows<Extra>(memory, x, args.x_row_stride, rows, args.k);
      }
    });
    return left;
  }

  /// The z of the terms of a block.
  void shrink(int64_t block) const {
    if (terms.begin(block) == terms.end(block)) return;
    Scratch memory(left_bytes<Extra>(args.k));
    for (int64_t row = 0; row < rows_of(block); row += kRows) {
      const LeftView left = floats_of(block * BlockRows + row, within(rows_of(block) - row, 0, kRows), memory.as<void>());
      for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
        if (part->row / kRows != row / kRows) continue;
        BlockTerm moved = *part;
        moved.row -= static_cast<int32_t>(row);
        shrink_block<Extra>(args, moved, left, packed_z.as<char>() + part->packed);
      }
    }
  }

  /// Adds terms and bias to the sums of a block and a panel, and writes them out.
  void finish(int64_t block, int64_t panel, float* tile) const {
    const int64_t rows = rows_of(block), first = panel * kWidth, columns = within(args.n - first, 0, kWidth);
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      expand_tile<Extra>(args, *part, packed_z.as<char>() + part->packed, panel, tile);
    }
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + block * BlockRows * args.y_row_stride + first;
      const float* panel_bias = bias.values() == nullptr ? nullptr : bias.values() + first;
      for (int64_t row = 0; row < rows; ++row) {
        if (columns == kWidth) {
          write_whole_row(tile + row * kWidth, panel_bias, y + row * args.y_row_stride);
        } else {
          write_row<0>(tile + row * kWidth, panel_bias, y + row * args.y_row_stride, columns);
        }
      }
    });
  }
};

}  // namespace lorikeet::LORIKEET_LEVEL
