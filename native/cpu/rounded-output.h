#pragma once

// What products of rows in 8-bit integers have besides them: low-rank terms, which see x itself, and tiles of f32 sums on their way out.

#include "cpu/gemm-low-rank.h"
#include "cpu/integers.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class T>
LORIKEET_INLINE void write_row(const float* source, const float* bias, int64_t columns, T* target) {
  if (bias != nullptr) {
    for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j] + bias[j]));
  } else {
    for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j]));
  }
}

/// The same of a whole row of a tile.
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
  write_row(source, bias, 2 * kVector, target);
}

/// Extra is the kind of the low-rank terms.
template <class Extra>
struct RoundedOutput {
  static constexpr int64_t kWidth = 2 * kVector;

  const GemmArgs& args;
  const BlockTerms& terms;
  const float* bias;  // [n], or null
  char* packed_z;

  int64_t rows_of(int64_t block) const { return within(args.m - block * kRows, 0, kRows); }

  /// The rows of a block as the terms read them: where they lie, if they are stored so, else copied to `memory`.
  LeftView floats_of(int64_t block, void* memory) const {
    LeftView left{};
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + block * kRows * args.x_row_stride;
      const int64_t row_bytes = args.x_row_stride * static_cast<int64_t>(sizeof(T));
      const bool stored_so = __is_same(T, typename Extra::Element) && args.k % Extra::kDepth == 0;
      if (args.x_column_stride != 1) {
        left = copy_left<Extra>(memory, x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
      } else if (stored_so) {
        left = {reinterpret_cast<const char*>(x), row_bytes, sizeof(typename Extra::Word)};
      } else {
        left = copy_left_rows<Extra>(memory, x, args.x_row_stride, rows_of(block), args.k);
      }
    });
    return left;
  }

  /// The z of the terms of a block.
  void shrink(int64_t block) const {
    if (terms.begin(block) == terms.end(block)) return;
    Scratch memory(left_bytes<Extra>(args.k));
    const LeftView left = floats_of(block, memory.as<void>());
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      shrink_block<Extra>(args, *part, left, packed_z + part->packed);
    }
  }

  /// Adds terms and bias to the sums of a block and a panel, and writes them out.
  void finish(int64_t block, int64_t panel, float* tile) const {
    const int64_t rows = rows_of(block), first = panel * kWidth, columns = within(args.n - first, 0, kWidth);
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      expand_tile<Extra>(args, *part, packed_z + part->packed, panel, tile);
    }
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + block * kRows * args.y_row_stride + first;
      const float* panel_bias = bias == nullptr ? nullptr : bias + first;
      for (int64_t row = 0; row < rows; ++row) {
        if (columns == kWidth) {
          write_whole_row(tile + row * kWidth, panel_bias, y + row * args.y_row_stride);
        } else {
          write_row(tile + row * kWidth, panel_bias, columns, y + row * args.y_row_stride);
        }
      }
    });
  }
};

}  // namespace lorikeet::LORIKEET_LEVEL
