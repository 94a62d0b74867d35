// out[r, c] = scale * Σ_t p[t, r] · x[t, c]: weight gradients and column sums. p is the left operand, its columns the rows r of the output;
// x is the right one. A task owns some columns; it walks the rows in slices, turns a slice of x into panels (widened or in pairs of rows,
// masked on the way) and goes on with the accumulators of the slice before, so that each element is one chain over all rows.

#include "cpu/level.h"

#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"
#include "cpu/pair-product.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kSliceSteps = 64;
inline constexpr int64_t kTaskTiles = 4;  // their panels of a slice fit a level-1 cache

/// The rows of x in the order of p, slice by slice across the borders of ranges.
template <class T, int64_t Rows>
struct RowWalk {
  const GemmRowsArgs& args;
  const RowRange* range = args.ranges;
  int64_t row = 0;                // of the range
  const T* rows[Rows] = {};       // of the slice
  int64_t count = 0, before = 0;  // rows of the slice and of those before it

  const T* row_at(int64_t offset) const { return static_cast<const T*>(args.x) + (range->x_row + row + offset) * args.x_row_stride; }

  /// Goes on to the next slice; false when there is none.
  bool next() {
    before += count;
    count = 0;
    for (const RowRange* end = args.ranges + args.range_count; range != end && count < Rows;) {
      const int64_t rest = range->rows - row, run = rest < Rows - count ? rest : Rows - count;
      for (int64_t i = 0; i < run; ++i) rows[count + i] = row_at(i);
      count += run;
      row += run;
      if (row == range->rows) {
        ++range;
        row = 0;
      }
    }
    return count > 0;
  }

  /// The first row after the slice where a whole slice follows in one range, or null.
  const T* ahead() const {
    const bool whole = range != args.ranges + args.range_count && range->rows - row >= Rows;
    return whole ? row_at(0) : nullptr;
  }
};

/// The accumulators and operands of one task: columns [first, first + columns).
template <class Kind, class T>
struct RowsTask {
  using C = typename Kind::Accumulator;
  using Element = typename Kind::Element;
  using Word = typename Kind::Word;
  static constexpr int64_t kDepth = Kind::kDepth;
  static constexpr int64_t kWidth = 2 * kVectorBytes / static_cast<int64_t>(sizeof(C));
  static constexpr int64_t kTileElements = kTileBytes / static_cast<int64_t>(sizeof(C));
  static constexpr int64_t kSliceRows = kSliceSteps * kDepth;
  using Walk = RowWalk<T, kSliceRows>;

  const GemmRowsArgs& args;
  int64_t first, columns;
  int64_t tiles = (columns + kWidth - 1) / kWidth;
  int64_t blocks = (args.rank + kRows - 1) / kRows;
  int64_t block_rows = (args.rank + blocks - 1) / blocks;  // alike in all blocks, so that none is thin

  /// `count` <= kWidth columns of the rows of a step, zeros after them. `odd` is the second row of a pair, or null.
  static void fill_step(const T* even, [[maybe_unused]] const T* odd, int64_t count, Word* panel) {
    if constexpr (kDepth == 2) {
      if (count < kWidth) memset(panel, 0, kWidth * sizeof(Word));
      pair_rows(even, odd, count == kWidth ? kWidth : count, panel);
    } else if (count == kWidth) {
      for (int64_t j = 0; j < kWidth; ++j) panel[j] = static_cast<C>(load(even + j));
    } else {
      for (int64_t j = 0; j < count; ++j) panel[j] = static_cast<C>(load(even + j));
      for (int64_t j = count; j < kWidth; ++j) panel[j] = 0;
    }
  }

  void drop(int64_t row, int64_t t, Element* panels) const {
    for_mask<kTaskTiles * kWidth>(args.mask.seed, args.mask.stream, args.mask.p, static_cast<uint64_t>(row * args.columns + first), columns,
                                  [&](int64_t begin, const uint32_t* keep, int64_t count) {
                                    for (int64_t j = 0; j < count; ++j) {
                                      const int64_t column = begin + j;
                                      const int64_t word = (column / kWidth * kSliceSteps + t / kDepth) * kWidth + column % kWidth;
                                      Element& element = panels[word * kDepth + t % kDepth];
                                      element = keep[j] != 0 ? element : Element{};
                                    }
                                  });
  }

  /// A slice as panels[tile][step][kWidth].
  void pack_slice(const Walk& slice, Word* panels) const {
    for (int64_t t = 0; t < slice.count; t += kDepth) {
      const T* odd = kDepth == 2 && t + 1 < slice.count ? slice.rows[t + 1] + first : nullptr;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t place = tile * kWidth, rest = columns - place;
        fill_step(slice.rows[t] + first + place, odd == nullptr ? nullptr : odd + place, rest < kWidth ? rest : kWidth,
                  panels + (tile * kSliceSteps + t / kDepth) * kWidth);
      }
    }
    if (args.mask.p > 0) {
      for (int64_t t = 0; t < slice.count; ++t) drop(args.ranges->p_row + slice.before + t, t, reinterpret_cast<Element*>(panels));
    }
  }

  /// The rows of p of a slice: where they lie, or as pairs of rows.
  LeftView left_of(const Walk& slice, [[maybe_unused]] Word* memory) const {
    const auto* p = static_cast<const C*>(args.p) + (args.ranges->p_row + slice.before) * args.p_row_stride;
    if constexpr (kDepth == 2) {
      for (int64_t t = 0; t < slice.count; t += 2) {
        const C *even = p + t * args.p_row_stride, *odd = t + 1 < slice.count ? even + args.p_row_stride : nullptr;
        Word* words = memory + t / 2 * args.rank;
        for (int64_t r = 0; r < args.rank; r += kVector) {
          const int64_t count = args.rank - r < kVector ? args.rank - r : kVector;
          store_pairs(even + r, odd == nullptr ? nullptr : odd + r, count, words + r);
        }
      }
      return {reinterpret_cast<const char*>(memory), sizeof(Word), args.rank * static_cast<int64_t>(sizeof(Word))};
    } else {
      return {reinterpret_cast<const char*>(p), sizeof(C), args.p_row_stride * static_cast<int64_t>(sizeof(C))};
    }
  }

  void run() const {
    const int64_t left_words = kDepth == 2 ? kSliceSteps * args.rank : 0;
    Scratch sum_memory(blocks * tiles * kTileBytes), panel_memory(tiles * kSliceSteps * 2 * kVectorBytes),
        left_memory(left_words * static_cast<int64_t>(sizeof(Word)));
    C* sums = sum_memory.as<C>();
    Word* panels = panel_memory.as<Word>();
    memset(sums, 0, blocks * tiles * kTileBytes);
    for (Walk slice{args}; slice.next();) {
      pack_slice(slice, panels);
      add_slice(left_of(slice, left_memory.as<Word>()), slice, panels, sums);
    }
    write(sums);
  }

  /// Adds a slice to the sums, and brings the next one into cache: of every step a line with the first block, the next line with the
  /// second.
  void add_slice(const LeftView& left, const Walk& slice, const Word* panels, C* sums) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T)), kLines = kWidth / kLine * kDepth;
    const T* next = slice.ahead();
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t rest = args.rank - b * block_rows;
      const Micro product = micro_for<Kind, 2>(rest < block_rows ? rest : block_rows);
      const int64_t line = b / kDepth * kLine + b % kDepth * args.x_row_stride;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const Strip strip = strip_of(steps_of<Kind>(slice.count), left.from_row(b * block_rows), panels + tile * kSliceSteps * kWidth);
        Ahead ahead;
        if (next != nullptr && b < kLines) {
          ahead = {reinterpret_cast<const char*>(next + first + tile * kWidth + line),
                   kDepth * args.x_row_stride * static_cast<int64_t>(sizeof(T))};
        }
        product(&strip, 1, {sums + (b * tiles + tile) * kTileElements, true}, ahead);
      }
    }
  }

  const C* sums_of(const C* sums, int64_t r, int64_t tile) const {
    return sums + (r / block_rows * tiles + tile) * kTileElements + r % block_rows * kWidth;
  }

  void write(const C* sums) const {
    const auto scale = static_cast<C>(args.scale);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t place = tile * kWidth, filled = columns - place < kWidth ? columns - place : kWidth;
      if constexpr (sizeof(C) == sizeof(uint32_t)) {
        if (args.transposed) {
          write_turned(sums, tile, filled);
          continue;
        }
      }
      const int64_t row_step = args.transposed ? 1 : args.columns, column_step = args.transposed ? args.rank : 1;
      for (int64_t r = 0; r < args.rank; ++r) {
        const C* row = sums_of(sums, r, tile);
        C* target = static_cast<C*>(args.out) + r * row_step + (first + place) * column_step;
        for (int64_t j = 0; j < filled; ++j) target[j * column_step] = row[j] * scale;
      }
    }
  }

  /// A tile of f32 into out[columns, rank], by squares turned in registers.
  void write_turned(const C* sums, int64_t tile, int64_t filled) const {
    const auto scale = static_cast<C>(args.scale);
    for (int64_t r = 0; r < args.rank; r += kVector) {
      const int64_t count = args.rank - r < kVector ? args.rank - r : kVector;
      for (int64_t c = 0; c < filled; c += kVector) {
        WordSquare square;
        for (int64_t i = 0; i < kVector; ++i) {
          if (i < count) {
            const auto row = *reinterpret_cast<const FloatVector*>(sums_of(sums, r + i, tile) + c) * splat(scale);
            *reinterpret_cast<FloatVector*>(square.rows[i]) = row;
          } else {
            zero_words(square.rows[i]);
          }
        }
        transpose_square(square);
        C* target = static_cast<C*>(args.out) + (first + tile * kWidth + c) * args.rank + r;
        for (int64_t j = 0; j < kVector && c + j < filled; ++j) {
          memcpy(target + j * args.rank, square.rows[j], static_cast<size_t>(count) * sizeof(C));
        }
      }
    }
  }
};

/// Tiles of a task: few enough that every thread gets several tasks, but with a mask as many as one piece of it covers.
inline int64_t tiles_of_task(int64_t tiles, bool masked) {
  if (masked) return kTaskTiles;
  const int64_t fair = tiles / (4 * thread_count());
  return fair < 1 ? 1 : fair > kTaskTiles ? kTaskTiles : fair;
}

template <class Kind, class T>
void run_rows(const GemmRowsArgs& args) {
  constexpr int64_t kWidth = RowsTask<Kind, T>::kWidth;
  int64_t rows = 0;
  for (int64_t i = 0; i < args.range_count; ++i) rows += args.ranges[i].rows;
  const bool small = rows * args.columns * args.rank < (1 << 16);
  const int64_t tiles = (args.columns + kWidth - 1) / kWidth;
  const int64_t width = kWidth * (small ? tiles : tiles_of_task(tiles, args.mask.p > 0));
  for_tasks(small, (args.columns + width - 1) / width, [&](int64_t task) {
    const int64_t first = task * width;
    RowsTask<Kind, T>{args, first, args.columns - first < width ? args.columns - first : width}.run();
  });
}

void gemm_rows(const GemmRowsArgs& args) {
  if (args.rank == 0 || args.columns == 0) return;
  switch (args.x_dtype) {
    case DType::f64: return run_rows<KindF64, double>(args);
    case DType::f32: return run_rows<KindF32, float>(args);
#if defined(__AVX512BF16__)
    case DType::bf16: return run_rows<KindPairs, BFloat16>(args);
#else
    case DType::bf16: return run_rows<KindF32, BFloat16>(args);
#endif
    default: return run_rows<KindF32, Float16>(args);
  }
}

LORIKEET_KERNEL(gemm_rows_kernel, gemm_rows)

}  // namespace lorikeet::LORIKEET_LEVEL
