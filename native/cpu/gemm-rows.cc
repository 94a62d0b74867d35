// out[r, c] = scale * Σ_t p[t, r] · x[t, c]: weight gradients and column sums. p is the left operand, its columns the rows r of the output;
// x is the right one. A task owns some columns of some r; it walks the rows in slices and goes on with the accumulators of the slice
// before, so that each element is one chain over all rows. A slice of x is read where it lies, pairs of bf16 rows made in registers; where
// it cannot be (dropout, another type than that of the arithmetic, a border of ranges) it is turned into panels first.

#include "cpu/level.h"

#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"
#include "cpu/gemm-rows-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kSliceSteps = 64;
inline constexpr int64_t kTaskTiles = 4;  // their panels of a slice fit a level-1 cache

/// The rows of x in the order of p, slice by slice across the borders of ranges.
template <class T, int64_t Rows>
struct RowWalk {
  const GemmRowsArgs& args;
  const RowRange *range = args.ranges, *end = args.ranges + args.range_count;
  int64_t row = 0;                // of the range
  int64_t count = 0, before = 0;  // rows of the slice and of those before it
  const T* first = nullptr;       // row of the slice
  bool together = true;           // the slice lies in one range
  const T* rows[Rows];            // of the slice where it does not

  explicit RowWalk(const GemmRowsArgs& sum) : args(sum) {}

  const T* row_at(int64_t offset) const { return static_cast<const T*>(args.x) + (range->x_row + row + offset) * args.x_row_stride; }
  const T* operator[](int64_t i) const { return together ? first + i * args.x_row_stride : rows[i]; }

  /// Goes on to the next slice; false when there is none.
  bool next() {
    before += count;
    count = 0;
    while (range != end && row == range->rows) leave();
    if (range == end) return false;
    first = row_at(0);
    const int64_t rest = range->rows - row;
    together = rest >= Rows || range + 1 == end;
    if (together) {
      count = rest < Rows ? rest : Rows;
      row += count;
      return true;
    }
    while (range != end && count < Rows) {
      const int64_t left = range->rows - row, run = left < Rows - count ? left : Rows - count;
      for (int64_t i = 0; i < run; ++i) rows[count + i] = row_at(i);
      count += run;
      row += run;
      if (row == range->rows) leave();
    }
    return true;
  }

  void leave() {
    ++range;
    row = 0;
  }

  /// The first row after the slice where a whole slice follows in one range, or null.
  const T* ahead() const { return range != end && range->rows - row >= Rows ? row_at(0) : nullptr; }
};

/// p as left words: where it lies, or as pairs of rows.
template <class Kind>
struct LeftWords {
  const typename Kind::Word* words;
  int64_t stride;  // from step to step
};

template <class Kind>
LeftWords<Kind> left_words(const GemmRowsArgs& args, int64_t first, [[maybe_unused]] int64_t rows, [[maybe_unused]] uint32_t* memory) {
  const auto* p = static_cast<const typename Kind::Accumulator*>(args.p) + first * args.p_row_stride;
  if constexpr (Kind::kDepth == 2) {
    constexpr int64_t kTaskSteps = 256;
    const int64_t steps = (rows + 1) / 2;
    for_tasks(rows * args.rank < (1 << 16), (steps + kTaskSteps - 1) / kTaskSteps, [&](int64_t task) {
      for (int64_t step = task * kTaskSteps; step < steps && step < (task + 1) * kTaskSteps; ++step) {
        const auto *even = p + 2 * step * args.p_row_stride, *odd = 2 * step + 1 < rows ? even + args.p_row_stride : nullptr;
        for (int64_t r = 0; r < args.rank; r += kVector) {
          const int64_t count = args.rank - r < kVector ? args.rank - r : kVector;
          store_pairs(even + r, odd == nullptr ? nullptr : odd + r, count, memory + step * args.rank + r);
        }
      }
    });
    return {memory, args.rank};
  } else {
    return {p, args.p_row_stride};
  }
}

/// How the r of a sum are cut into register blocks: alike, so that none is thin.
struct RankBlocks {
  int64_t count, rows;
};

LORIKEET_INLINE RankBlocks blocks_of(int64_t rank) {
  const int64_t count = (rank + kRows - 1) / kRows;
  return {count, (rank + count - 1) / count};
}

/// The accumulators and operands of one task: columns [first, first + columns) of blocks [block_begin, block_end).
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
  LeftWords<Kind> left;
  bool in_place;  // x is read where it lies if its rows do so together
  int64_t first, columns;
  RankBlocks blocks;
  int64_t block_begin, block_end;
  int64_t tiles = (columns + kWidth - 1) / kWidth;
  int64_t rank_begin = block_begin * blocks.rows;
  int64_t rank_end = block_end * blocks.rows < args.rank ? block_end * blocks.rows : args.rank;

  int64_t last_columns = columns - (tiles - 1) * kWidth;
  /// Columns of the tile before, with which a last tile in place fills its vectors; it computes them again and writes only its own.
  int64_t overlap = in_place && args.columns >= width_of(tiles - 1) ? width_of(tiles - 1) - last_columns : 0;

  /// Columns that a tile has room for: a vector where that is enough.
  int64_t width_of(int64_t tile) const { return columns - tile * kWidth <= kWidth / 2 ? kWidth / 2 : kWidth; }
  int64_t begin_of(int64_t tile) const { return first + tile * kWidth - (tile + 1 == tiles ? overlap : 0); }
  int64_t count_of(int64_t tile) const { return tile + 1 == tiles ? last_columns + overlap : kWidth; }
  /// Tiles of a slice that lies in memory as register blocks want it.
  int64_t tiles_in_place() const { return count_of(tiles - 1) == width_of(tiles - 1) ? tiles : tiles - 1; }
  int64_t block_rows(int64_t block) const {
    const int64_t rest = rank_end - block * blocks.rows;
    return rest < blocks.rows ? rest : blocks.rows;
  }

  /// `count` <= width columns of the rows of a step, zeros after them. `odd` is the second row of a pair, or null.
  static void fill_step(const T* even, [[maybe_unused]] const T* odd, int64_t count, int64_t width, Word* panel) {
    if constexpr (kDepth == 2) {
      if (count < width) memset(panel, 0, static_cast<size_t>(width) * sizeof(Word));
      pair_rows(even, odd, count == kWidth ? kWidth : count, panel);
    } else if (count == kWidth) {
      for (int64_t j = 0; j < kWidth; ++j) panel[j] = static_cast<C>(load(even + j));
    } else {
      for (int64_t j = 0; j < count; ++j) panel[j] = static_cast<C>(load(even + j));
      for (int64_t j = count; j < width; ++j) panel[j] = 0;
    }
  }

  void drop(int64_t row, int64_t t, Element* panels) const {
    for_mask<kTaskTiles * kWidth>(args.mask.seed, args.mask.stream, args.mask.p, static_cast<uint64_t>(row * args.columns + first), columns,
                                  [&](int64_t begin, const uint32_t* keep, int64_t count) {
                                    for (int64_t j = 0; j < count; ++j) {
                                      const int64_t column = begin + j, tile = column / kWidth;
                                      const int64_t word = tile * kSliceSteps * kWidth + t / kDepth * width_of(tile) + column % kWidth;
                                      Element& element = panels[word * kDepth + t % kDepth];
                                      element = keep[j] != 0 ? element : Element{};
                                    }
                                  });
  }

  /// Tiles from `tile_begin` on of a slice as panels[tile][step][width].
  void pack_slice(const Walk& slice, int64_t tile_begin, Word* panels) const {
    for (int64_t t = 0; t < slice.count && tile_begin < tiles; t += kDepth) {
      const T *even = slice[t], *odd = kDepth == 2 && t + 1 < slice.count ? slice[t + 1] : nullptr;
      for (int64_t tile = tile_begin; tile < tiles; ++tile) {
        const int64_t place = begin_of(tile), width = width_of(tile);
        fill_step(even + place, odd == nullptr ? nullptr : odd + place, count_of(tile), width,
                  panels + tile * kSliceSteps * kWidth + t / kDepth * width);
      }
    }
    if (args.mask.p > 0) {
      for (int64_t t = 0; t < slice.count; ++t) drop(args.ranges->p_row + slice.before + t, t, reinterpret_cast<Element*>(panels));
    }
  }

  void run() const {
    const int64_t sum_bytes = (block_end - block_begin) * tiles * kTileBytes;
    Scratch sum_memory(sum_bytes + kVectorBytes), panel_memory(tiles * kSliceSteps * 2 * kVectorBytes);
    C* sums = sum_memory.as<C>();
    Word* panels = panel_memory.as<Word>();
    memset(sums, 0, static_cast<size_t>(sum_bytes));
    for (Walk slice(args); slice.next();) {
      const bool lies = in_place && slice.together && slice.count % kDepth == 0;
      const int64_t whole = lies ? tiles_in_place() : 0;
      const Word* words = left.words + slice.before / kDepth * left.stride;
      if (lies) add_in_place(words, slice, whole, sums);
      pack_slice(slice, whole, panels);
      add_panels(words, slice, whole, panels, sums);
    }
    write(sums);
  }

  C* sums_at(C* sums, int64_t block, int64_t tile) const { return sums + ((block - block_begin) * tiles + tile) * kTileElements; }

  /// Adds the tiles before `tile_end` of a slice that lies in memory as register blocks want it, and brings the next slice into cache.
  void add_in_place(const Word* words, const Walk& slice, int64_t tile_end, C* sums) const {
    if constexpr (__is_same(T, Element)) {
      constexpr int64_t kSize = sizeof(T);
      const int64_t ahead = slice.ahead() != nullptr ? (slice.ahead() - slice.first) * kSize : 0;
      for (int64_t tile = 0; tile < tile_end; ++tile) {
        const char* rows = reinterpret_cast<const char*>(slice.first + begin_of(tile));
        for (int64_t block = block_begin; block < block_end; ++block) {
          const RowsBlock<Kind> product =
              width_of(tile) == kWidth ? rows_block_for<Kind, 2>(block_rows(block)) : rows_block_for<Kind, 1>(block_rows(block));
          product(slice.count / kDepth, words + block * blocks.rows, left.stride, rows, args.x_row_stride * kSize,
                  block == block_begin ? ahead : 0, sums_at(sums, block, tile));
        }
      }
    }
  }

  /// Adds the tiles from `tile_begin` on of a packed slice, and brings the next one into cache: of every step a line with the first block,
  /// the next line with the second.
  void add_panels(const Word* words, const Walk& slice, int64_t tile_begin, const Word* panels, C* sums) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T)), kLines = kWidth / kLine * kDepth;
    constexpr int64_t kWord = sizeof(Word);
    const T* next = slice.ahead();
    for (int64_t block = block_begin; block < block_end && tile_begin < tiles; ++block) {
      const int64_t rows = block_rows(block), b = block - block_begin;
      const LeftView view{reinterpret_cast<const char*>(words + block * blocks.rows), kWord, left.stride * kWord};
      const int64_t line = b / kDepth * kLine + b % kDepth * args.x_row_stride;
      for (int64_t tile = tile_begin; tile < tiles; ++tile) {
        const Strip strip = strip_of(steps_of<Kind>(slice.count), view, panels + tile * kSliceSteps * kWidth);
        Ahead ahead;
        if (next != nullptr && b < kLines) {
          ahead = {reinterpret_cast<const char*>(next + begin_of(tile) + line),
                   kDepth * args.x_row_stride * static_cast<int64_t>(sizeof(T))};
        }
        const Micro product = width_of(tile) == kWidth ? micro_for<Kind, 2>(rows) : micro_for<Kind, 1>(rows);
        product(&strip, 1, {sums_at(sums, block, tile), true}, ahead);
      }
    }
  }

  /// The sums of row r of the output in the columns that a tile writes.
  const C* sums_of(const C* sums, int64_t r, int64_t tile) const {
    const int64_t skip = tile + 1 == tiles ? overlap : 0;
    return sums + ((r / blocks.rows - block_begin) * tiles + tile) * kTileElements + r % blocks.rows * kWidth + skip;
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
      for (int64_t r = rank_begin; r < rank_end; ++r) {
        const C* row = sums_of(sums, r, tile);
        C* target = static_cast<C*>(args.out) + r * row_step + (first + place) * column_step;
        for (int64_t j = 0; j < filled; ++j) target[j * column_step] = row[j] * scale;
      }
    }
  }

  /// A tile of f32 into out[columns, rank], by squares turned in registers.
  void write_turned(const C* sums, int64_t tile, int64_t filled) const {
    const auto scale = static_cast<C>(args.scale);
    for (int64_t r = rank_begin; r < rank_end; r += kVector) {
      const int64_t count = rank_end - r < kVector ? rank_end - r : kVector;
      for (int64_t c = 0; c < filled; c += kVector) {
        WordSquare square;
        for (int64_t i = 0; i < kVector; ++i) {
          if (i < count) {
            FloatVector row;
            memcpy(&row, sums_of(sums, r + i, tile) + c, sizeof row);
            *reinterpret_cast<FloatVector*>(square.rows[i]) = row * splat(scale);
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

/// How the columns and the r of a sum are cut into tasks changes no bit of it.
template <class Kind, class T>
void run_rows(const GemmRowsArgs& args) {
  using Task = RowsTask<Kind, T>;
  int64_t rows = 0;
  for (int64_t i = 0; i < args.range_count; ++i) rows += args.ranges[i].rows;
  const bool small = rows * args.columns * args.rank < (1 << 16);
  const RankBlocks blocks = blocks_of(args.rank);
  const bool in_place = __is_same(T, typename Kind::Element) && args.mask.p == 0;
  const int64_t tiles = (args.columns + Task::kWidth - 1) / Task::kWidth;
  const int64_t width = Task::kWidth * (small ? tiles : tiles_of_task(tiles, args.mask.p > 0));
  const int64_t shares = (args.columns + width - 1) / width;
  // x is cheap to read where it lies: where columns make few tasks, each block is one.
  const int64_t together = in_place && !small && shares < 8 * thread_count() ? 1 : blocks.count;
  const int64_t parts = (blocks.count + together - 1) / together;
  Scratch words(Kind::kDepth == 2 ? (rows + 1) / 2 * args.rank * static_cast<int64_t>(sizeof(uint32_t)) : 0);
  const LeftWords<Kind> left = left_words<Kind>(args, args.range_count > 0 ? args.ranges->p_row : 0, rows, words.as<uint32_t>());
  for_tasks(small, shares * parts, [&](int64_t task) {
    const int64_t first = task / parts * width, begin = task % parts * together;
    const int64_t end = begin + together < blocks.count ? begin + together : blocks.count;
    Task{args, left, in_place, first, args.columns - first < width ? args.columns - first : width, blocks, begin, end}.run();
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
