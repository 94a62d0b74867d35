// out = x · q for a large x and a thin q. A task owns some blocks of kRows rows and some panels. It goes through the contraction in chunks:
// the panels of a chunk stay in the level-1 cache while the chunk of x, broadcast element by element, passes them from the level-2 cache.
// So x is read from memory once, without being packed; the next chunk is fetched meanwhile.

#include "cpu/level.h"

#include "cpu/gemm-pack.h"
#include "ops/thin-product.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kTaskBlocks = 16;
inline constexpr int64_t kTaskPanels = 8;
inline constexpr int64_t kChunkSteps = 128;

/// Steps of a chunk, its rows of x one stride apart: tile += x · panel. Along: a row is contiguous; else a step is.
template <class Kind, int R, bool Along>
void thin_micro(int64_t steps, const typename Kind::Left* x, int64_t stride, const void* right_panel, void* tile_memory, int64_t ahead) {
  using Vector = typename Kind::Vector;
  const auto* right = static_cast<const Vector*>(right_panel);
  auto* tile = static_cast<Vector*>(tile_memory);
  Vector sum[R][2];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    sum[i][0] = tile[i * 2];
    sum[i][1] = tile[i * 2 + 1];
  }
  for (int64_t step = 0; step < steps; ++step) {
    const Vector b0 = right[0], b1 = right[1];
    if constexpr (!Along) __builtin_prefetch(x + ahead);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vector a = splat(Along ? x[i * stride] : x[i]);
      sum[i][0] = multiply_add(a, b0, sum[i][0]);
      sum[i][1] = multiply_add(a, b1, sum[i][1]);
    }
    x += Along ? 1 : stride;
    right += 2;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    tile[i * 2] = sum[i][0];
    tile[i * 2 + 1] = sum[i][1];
  }
}

template <class Kind>
using ThinMicro = void (*)(int64_t, const typename Kind::Left*, int64_t, const void*, void*, int64_t);

template <class Kind, bool Along>
ThinMicro<Kind> thin_micro_for(int64_t rows) {
  switch (rows) {
    case 1: return thin_micro<Kind, 1, Along>;
    case 2: return thin_micro<Kind, 2, Along>;
    case 3: return thin_micro<Kind, 3, Along>;
    case 4: return thin_micro<Kind, 4, Along>;
#if defined(__AVX2__)
    case 5: return thin_micro<Kind, 5, Along>;
    case 6: return thin_micro<Kind, 6, Along>;
#endif
#if defined(__AVX512F__)
    case 7: return thin_micro<Kind, 7, Along>;
    case 8: return thin_micro<Kind, 8, Along>;
    case 9: return thin_micro<Kind, 9, Along>;
    case 10: return thin_micro<Kind, 10, Along>;
    case 11: return thin_micro<Kind, 11, Along>;
    case 12: return thin_micro<Kind, 12, Along>;
#endif
    default: return nullptr;
  }
}

/// The rows [first, first + rows) of out in the panels [panel_begin, panel_end).
template <class Kind, class T, bool Along>
void thin_task(const ThinProductArgs& args, int64_t first, int64_t rows, int64_t panel_begin, int64_t panel_end) {
  using Element = typename Kind::Left;
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Element);
  constexpr bool kConverts = sizeof(T) != sizeof(Element);
  const int64_t blocks = (rows + kRows - 1) / kRows, panels = panel_end - panel_begin;
  Scratch tiles(blocks * panels * kTileBytes), converted(kConverts ? rows * kChunkSteps * static_cast<int64_t>(sizeof(Element)) : 0);
  auto* tile_memory = tiles.as<char>();
  memset(tile_memory, 0, blocks * panels * kTileBytes);
  const T* x = static_cast<const T*>(args.x) + first * args.row_stride;
  for (int64_t begin = 0; begin < args.steps; begin += kChunkSteps) {
    const int64_t steps = args.steps - begin < kChunkSteps ? args.steps - begin : kChunkSteps;
    const T* chunk = x + begin * args.step_stride;
    const Element* left = nullptr;
    int64_t stride = Along ? args.row_stride : args.step_stride;
    if constexpr (kConverts) {
      auto* target = converted.as<Element>();
      const int64_t lines = Along ? rows : steps, length = Along ? steps : rows;
      for (int64_t line = 0; line < lines; ++line) {
        for (int64_t i = 0; i < length; ++i) target[line * length + i] = load(chunk + line * stride + i);
      }
      left = target;
      stride = length;
    } else {
      left = chunk;
    }
    const int64_t ahead = begin + steps < args.steps && !kConverts ? steps * stride : 0;
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const char* right = static_cast<const char*>(args.panels) + (panel * args.steps + begin) * 2 * kVectorBytes;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t own = rows - block * kRows < kRows ? rows - block * kRows : kRows;
        thin_micro_for<Kind, Along>(own)(steps, left + block * kRows * (Along ? stride : 1), stride, right,
                                         tile_memory + ((panel - panel_begin) * blocks + block) * kTileBytes, ahead);
      }
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const int64_t columns = args.width - panel * kWidth < kWidth ? args.width - panel * kWidth : kWidth;
      const char* tile = tile_memory + ((panel - panel_begin) * blocks + row / kRows) * kTileBytes;
      memcpy(static_cast<Element*>(args.out) + (first + row) * args.width + panel * kWidth,
             reinterpret_cast<const Element*>(tile) + row % kRows * kWidth, columns * sizeof(Element));
    }
  }
}

template <class Kind, class T>
void thin_run(const ThinProductArgs& args) {
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(typename Kind::Left);
  const int64_t blocks = (args.rows + kRows - 1) / kRows, panels = (args.width + kWidth - 1) / kWidth;
  // Enough tasks for every thread, enough rows in each. The cut does not change a bit of the result.
  const int64_t wanted = blocks / (4 * thread_count());
  const int64_t task_blocks = wanted < 1 ? 1 : wanted > kTaskBlocks ? kTaskBlocks : wanted;
  const int64_t groups = (blocks + task_blocks - 1) / task_blocks, shares = (panels + kTaskPanels - 1) / kTaskPanels;
  const bool small = args.rows * args.steps * args.width < (1 << 16);
  for_tasks(small, groups * shares, [&](int64_t task) {
    const int64_t first = task / shares * task_blocks * kRows, panel = task % shares * kTaskPanels;
    const int64_t rows = args.rows - first < task_blocks * kRows ? args.rows - first : task_blocks * kRows;
    const int64_t panel_end = panel + kTaskPanels < panels ? panel + kTaskPanels : panels;
    if (args.step_stride == 1) return thin_task<Kind, T, true>(args, first, rows, panel, panel_end);
    thin_task<Kind, T, false>(args, first, rows, panel, panel_end);
  });
}

void thin_product(const ThinProductArgs& args) {
  switch (args.x_dtype) {
    case DType::f64: return thin_run<KindF64, double>(args);
    case DType::f32: return thin_run<KindF32, float>(args);
    case DType::bf16: return thin_run<KindF32, BFloat16>(args);
    default: return thin_run<KindF32, Float16>(args);
  }
}

LORIKEET_KERNEL(thin_product_kernel, thin_product)

}  // namespace lorikeet::LORIKEET_LEVEL
