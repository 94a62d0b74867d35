// out[r, c] = scale * Σ_t p[t, r] · x[t, c]: weight gradients and column sums. A task owns some columns; it walks the rows in slices,
// widens a slice of x into panels (masked on the way) and goes on with the accumulators of the slice before, so that each element is one
// chain over all rows.

#include "cpu/level.h"

#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kSliceRows = 64;
inline constexpr int64_t kTaskTiles = 8;

template <class Kind, class T>
void rows_task(const GemmRowsArgs& args, int64_t first, int64_t columns) {
  using Accumulator = typename Kind::Accumulator;
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);
  const int64_t tiles = (columns + kWidth - 1) / kWidth;
  const int64_t blocks = (args.rank + kRows - 1) / kRows;
  Scratch sums(blocks * tiles * kTileBytes);
  Scratch right(tiles * kSliceRows * 2 * kVectorBytes);
  Scratch left(blocks * kSliceRows * kRows * static_cast<int64_t>(sizeof(Accumulator)));
  auto* tile_memory = sums.as<char>();
  auto* x_panels = right.as<Accumulator>();
  auto* p_blocks = left.as<Accumulator>();
  memset(tile_memory, 0, blocks * tiles * kTileBytes);
  for (int64_t i = 0; i < args.range_count; ++i) {
    const RowRange& range = args.ranges[i];
    for (int64_t begin = 0; begin < range.rows; begin += kSliceRows) {
      const int64_t rows = range.rows - begin < kSliceRows ? range.rows - begin : kSliceRows;
      for (int64_t t = 0; t < rows; ++t) {
        const T* x = static_cast<const T*>(args.x) + (range.x_row + begin + t) * args.x_row_stride + first;
        for (int64_t tile = 0; tile < tiles; ++tile) {
          Accumulator* target = x_panels + (tile * kSliceRows + t) * kWidth;
          const int64_t filled = columns - tile * kWidth < kWidth ? columns - tile * kWidth : kWidth;
          for (int64_t j = 0; j < filled; ++j) target[j] = static_cast<Accumulator>(load(x + tile * kWidth + j));
          for (int64_t j = filled; j < kWidth; ++j) target[j] = 0;
        }
        if (args.mask.p > 0) {
          const int64_t row = range.p_row + begin + t;
          for_mask(args.mask.seed, args.mask.stream, args.mask.p, static_cast<uint64_t>(row * args.columns + first), columns,
                   [&](int64_t begin, const uint32_t* keep, int64_t count) {
                     for (int64_t j = 0; j < count; ++j) {
                       Accumulator& element = x_panels[((begin + j) / kWidth * kSliceRows + t) * kWidth + (begin + j) % kWidth];
                       element = keep[j] != 0 ? element : 0;
                     }
                   });
        }
      }
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t rank = args.rank - b * kRows < kRows ? args.rank - b * kRows : kRows;
        const auto* p = static_cast<const Accumulator*>(args.p) + (range.p_row + begin) * args.p_row_stride + b * kRows;
        Accumulator* block = p_blocks + b * kSliceRows * kRows;
        for (int64_t t = 0; t < rows; ++t) {
          for (int64_t r = 0; r < rank; ++r) block[t * kRows + r] = p[t * args.p_row_stride + r];
        }
        const LeftView view{reinterpret_cast<const char*>(block), sizeof(Accumulator), kRows * sizeof(Accumulator)};
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const Strip strip{rows, view, x_panels + tile * kSliceRows * kWidth};
          micro_for<Kind, 2>(rank)(&strip, 1, {tile_memory + (b * tiles + tile) * kTileBytes, true}, {});
        }
      }
    }
  }
  const auto scale = static_cast<Accumulator>(args.scale);
  auto* out = static_cast<Accumulator*>(args.out);
  for (int64_t r = 0; r < args.rank; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      const auto* tile = reinterpret_cast<const Accumulator*>(tile_memory + (r / kRows * tiles + j / kWidth) * kTileBytes);
      const Accumulator value = tile[r % kRows * kWidth + j % kWidth] * scale;
      out[args.transposed ? (first + j) * args.rank + r : r * args.columns + first + j] = value;
    }
  }
}

void gemm_rows(const GemmRowsArgs& args) {
  if (args.rank == 0 || args.columns == 0) return;
  const int64_t width = kTaskTiles * panel_width(kThisLevel, args.x_dtype == DType::f64 ? Panel::f64 : Panel::f32, 2);
  int64_t rows = 0;
  for (int64_t i = 0; i < args.range_count; ++i) rows += args.ranges[i].rows;
  const bool small = rows * args.columns * args.rank < (1 << 16);
  for_tasks(small, (args.columns + width - 1) / width, [&](int64_t task) {
    const int64_t first = task * width;
    const int64_t columns = args.columns - first < width ? args.columns - first : width;
    switch (args.x_dtype) {
      case DType::f64: return rows_task<KindF64, double>(args, first, columns);
      case DType::f32: return rows_task<KindF32, float>(args, first, columns);
      case DType::bf16: return rows_task<KindF32, BFloat16>(args, first, columns);
      default: return rows_task<KindF32, Float16>(args, first, columns);
    }
  });
}

LORIKEET_KERNEL(gemm_rows_kernel, gemm_rows)

}  // namespace lorikeet::LORIKEET_LEVEL
