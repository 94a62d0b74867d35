// out[r, c] = scale * Σ_t p[t, r] · x[t, c]: weight gradients and column sums. p is the left operand, its columns the rows r of the output;
// x is the right one. A task owns some columns; it walks the rows in slices, widens a slice of x into panels (masked on the way) and goes
// on with the accumulators of the slice before, so that each element is one chain over all rows.

#include "cpu/level.h"

#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kSliceRows = 64;
inline constexpr int64_t kTaskTiles = 4;  // their panels of a slice fit a level-1 cache

/// The accumulators and operands of one task: columns [first, first + columns).
template <class Kind, class T>
struct RowsTask {
  using C = typename Kind::Accumulator;
  static constexpr int64_t kWidth = 2 * kVectorBytes / static_cast<int64_t>(sizeof(C));
  static constexpr int64_t kTileElements = kTileBytes / static_cast<int64_t>(sizeof(C));

  const GemmRowsArgs& args;
  int64_t first, columns;
  int64_t tiles = (columns + kWidth - 1) / kWidth;
  int64_t blocks = (args.rank + kRows - 1) / kRows;
  int64_t block_rows = (args.rank + blocks - 1) / blocks;  // alike in all blocks, so that none is thin

  /// `count` <= kWidth elements of a row, zeros after them.
  static void widen(const T* x, int64_t count, C* panel) {
    if (count == kWidth) {
      for (int64_t j = 0; j < kWidth; ++j) panel[j] = static_cast<C>(load(x + j));
      return;
    }
    for (int64_t j = 0; j < count; ++j) panel[j] = static_cast<C>(load(x + j));
    for (int64_t j = count; j < kWidth; ++j) panel[j] = 0;
  }

  void drop(int64_t row, int64_t t, C* panels) const {
    for_mask<kTaskTiles * kWidth>(args.mask.seed, args.mask.stream, args.mask.p, static_cast<uint64_t>(row * args.columns + first), columns,
                                  [&](int64_t begin, const uint32_t* keep, int64_t count) {
                                    for (int64_t j = 0; j < count; ++j) {
                                      const int64_t column = begin + j;
                                      C& element = panels[(column / kWidth * kSliceRows + t) * kWidth + column % kWidth];
                                      element = keep[j] != 0 ? element : 0;
                                    }
                                  });
  }

  const T* row_of(const RowRange& range, int64_t row) const {
    return static_cast<const T*>(args.x) + (range.x_row + row) * args.x_row_stride + first;
  }

  /// Rows [begin, begin + rows) of a range as panels[tile][row][kWidth].
  void pack_slice(const RowRange& range, int64_t begin, int64_t rows, C* panels) const {
    for (int64_t t = 0; t < rows; ++t) {
      const T* x = row_of(range, begin + t);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t place = tile * kWidth, rest = columns - place;
        widen(x + place, rest < kWidth ? rest : kWidth, panels + (tile * kSliceRows + t) * kWidth);
      }
      if (args.mask.p > 0) drop(range.p_row + begin + t, t, panels);
    }
  }

  void run() const {
    Scratch sum_memory(blocks * tiles * kTileBytes), panel_memory(tiles * kSliceRows * 2 * kVectorBytes);
    C *sums = sum_memory.as<C>(), *panels = panel_memory.as<C>();
    memset(sums, 0, blocks * tiles * kTileBytes);
    for (int64_t i = 0; i < args.range_count; ++i) {
      const RowRange& range = args.ranges[i];
      for (int64_t begin = 0; begin < range.rows; begin += kSliceRows) {
        const int64_t rows = range.rows - begin < kSliceRows ? range.rows - begin : kSliceRows;
        pack_slice(range, begin, rows, panels);
        const bool more = range.rows - begin >= 2 * kSliceRows;
        add_slice(static_cast<const C*>(args.p) + (range.p_row + begin) * args.p_row_stride, rows, panels, sums,
                  more ? row_of(range, begin + kSliceRows) : nullptr);
      }
    }
    write(sums);
  }

  /// Adds a slice to the sums, and brings the next one (or null) into cache: a line of every row with the first block, the next line with
  /// the second.
  void add_slice(const C* p, int64_t rows, const C* panels, C* sums, const T* next) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t rest = args.rank - b * block_rows;
      const Micro product = micro_for<Kind, 2>(rest < block_rows ? rest : block_rows);
      const LeftView left{reinterpret_cast<const char*>(p + b * block_rows), sizeof(C),
                          args.p_row_stride * static_cast<int64_t>(sizeof(C))};
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const Strip strip{rows, left, panels + tile * kSliceRows * kWidth};
        Ahead ahead;
        if (next != nullptr && b * kLine < kWidth) {
          ahead = {reinterpret_cast<const char*>(next + tile * kWidth + b * kLine), args.x_row_stride * static_cast<int64_t>(sizeof(T))};
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
    case DType::bf16: return run_rows<KindF32, BFloat16>(args);
    default: return run_rows<KindF32, Float16>(args);
  }
}

LORIKEET_KERNEL(gemm_rows_kernel, gemm_rows)

}  // namespace lorikeet::LORIKEET_LEVEL
