// out = x · q for a large x and a thin q. A task owns some rows of out and some panels. It goes through the contraction in chunks whose
// panels stay in the level-1 cache. Of a chunk of x it copies a few rows at a time (widened where need be), so that strides that are powers
// of two do no harm, multiplies them with all of its panels, and fetches the next ones meanwhile: x is read from memory once.

#include "cpu/level.h"

#include "cpu/gemm-pack.h"
#include "ops/thin-product.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kTaskBlocks = 16;
inline constexpr int64_t kTaskPanels = 8;
inline constexpr int64_t kChunkSteps = 128;
/// Where each step is a row of x in memory: not more rows than a level-2 cache holds when they lie a power of two apart.
inline constexpr int64_t kAcrossSteps = 64;
/// Rows copied at a time where a step of x is contiguous: whole cache lines, whole blocks at every level.
inline constexpr int64_t kAcrossRows = 48;
inline constexpr int64_t kLine = 64;

/// Lines to fetch, one in each step: `run` neighbours, then a jump.
struct Fetch {
  const char* line;
  int64_t run, jump;
};

/// Steps of a chunk: tile += x · panel for R rows, `stride` apart when a row is contiguous (Along), else side by side.
template <class Kind, int R, bool Along>
void thin_micro(int64_t steps, const typename Kind::Element* x, int64_t stride, const void* right_panel, void* tile_memory, Fetch ahead) {
  using Vector = typename Kind::Vector;
  const auto* right = static_cast<const Vector*>(right_panel);
  auto* tile = static_cast<Vector*>(tile_memory);
  Vector sum[R][2];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    sum[i][0] = tile[i * 2];
    sum[i][1] = tile[i * 2 + 1];
  }
  int64_t in_run = ahead.run;
  for (int64_t step = 0; step < steps; ++step) {
    const Vector b0 = right[0], b1 = right[1];
    __builtin_prefetch(ahead.line);
    ahead.line += kLine;
    if (--in_run == 0) {
      ahead.line += ahead.jump;
      in_run = ahead.run;
    }
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
using ThinMicro = void (*)(int64_t, const typename Kind::Element*, int64_t, const void*, void*, Fetch);

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
struct ThinTask {
  using Element = typename Kind::Element;
  static constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Element);
  static constexpr int64_t kGroupRows = Along ? kRows : kAcrossRows;
  static constexpr int64_t kSteps = Along ? kChunkSteps : kAcrossSteps;
  static_assert(kAcrossRows % kRows == 0);

  const ThinProductArgs& args;
  int64_t first, rows, panel_begin, panel_end;

  int64_t steps_from(int64_t begin) const { return args.steps - begin < kSteps ? args.steps - begin : kSteps; }
  int64_t rows_from(int64_t row) const { return rows - row < kGroupRows ? rows - row : kGroupRows; }
  const T* place(int64_t row, int64_t step) const {
    return static_cast<const T*>(args.x) + (first + row) * args.row_stride + step * args.step_stride;
  }

  /// Lines of contiguous elements one after the other.
  static void copy(const T* x, int64_t stride, int64_t lines, int64_t length, Element* target) {
    for (int64_t line = 0; line < lines; ++line) {
      for (int64_t i = 0; i < length; ++i) target[line * length + i] = static_cast<Element>(load(x + line * stride + i));
    }
  }

  /// What block `block` of a group fetches of the group that comes next.
  Fetch ahead_of(int64_t row, int64_t begin, int64_t block) const {
    row += kGroupRows;
    if (row >= rows) {
      row = 0;
      begin += kSteps;
    }
    if (begin >= args.steps) return {static_cast<const char*>(args.x), 1, -kLine};
    const char* line = reinterpret_cast<const char*>(place(row, begin));
    constexpr int64_t kSize = sizeof(T);
    if (Along) return {line, kSteps * kSize / kLine, args.row_stride * kSize - kSteps * kSize};
    return {line + block * kLine, 1, args.step_stride * kSize - kLine};
  }

  void group(int64_t row, int64_t begin, Element* room, char* tiles) const {
    const int64_t steps = steps_from(begin), own = rows_from(row), length = Along ? steps : own;
    copy(place(row, begin), Along ? args.row_stride : args.step_stride, Along ? own : steps, length, room);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const char* right = static_cast<const char*>(args.panels) + (panel * args.steps + begin) * 2 * kVectorBytes;
      for (int64_t block = 0; block * kRows < own; ++block) {
        const int64_t in_block = own - block * kRows < kRows ? own - block * kRows : kRows;
        const Fetch ahead = panel == panel_begin ? ahead_of(row, begin, block) : Fetch{reinterpret_cast<const char*>(room), 1, -kLine};
        thin_micro_for<Kind, Along>(in_block)(steps, room + block * kRows * (Along ? length : 1), length, right,
                                              tile_at(tiles, row / kRows + block, panel), ahead);
      }
    }
  }

  char* tile_at(char* tiles, int64_t block, int64_t panel) const {
    return tiles + (block * (panel_end - panel_begin) + panel - panel_begin) * kTileBytes;
  }

  void run() const {
    const int64_t tile_bytes = (rows + kRows - 1) / kRows * (panel_end - panel_begin) * kTileBytes;
    Scratch tile_memory(tile_bytes), room(kGroupRows * kSteps * static_cast<int64_t>(sizeof(Element)));
    auto* tiles = tile_memory.as<char>();
    memset(tiles, 0, tile_bytes);
    for (int64_t begin = 0; begin < args.steps; begin += kSteps) {
      for (int64_t row = 0; row < rows; row += kGroupRows) group(row, begin, room.as<Element>(), tiles);
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        const int64_t columns = args.width - panel * kWidth < kWidth ? args.width - panel * kWidth : kWidth;
        memcpy(static_cast<Element*>(args.out) + (first + row) * args.width + panel * kWidth,
               reinterpret_cast<const Element*>(tile_at(tiles, row / kRows, panel)) + row % kRows * kWidth, columns * sizeof(Element));
      }
    }
  }
};

template <class Kind, class T>
void thin_run(const ThinProductArgs& args) {
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(typename Kind::Element);
  constexpr int64_t kGroup = kAcrossRows / kRows;
  const int64_t blocks = (args.rows + kRows - 1) / kRows, panels = (args.width + kWidth - 1) / kWidth;
  // Enough tasks for every thread, enough rows in each. The cut does not change a bit of the result.
  const int64_t wanted = blocks / (4 * thread_count()) / kGroup * kGroup;
  const int64_t task_blocks = wanted < kGroup ? kGroup : wanted > kTaskBlocks ? kTaskBlocks : wanted;
  const int64_t groups = (blocks + task_blocks - 1) / task_blocks, shares = (panels + kTaskPanels - 1) / kTaskPanels;
  const bool small = args.rows * args.steps * args.width < (1 << 16);
  for_tasks(small, groups * shares, [&](int64_t task) {
    const int64_t first = task / shares * task_blocks * kRows, panel = task % shares * kTaskPanels;
    const int64_t rows = args.rows - first < task_blocks * kRows ? args.rows - first : task_blocks * kRows;
    const int64_t panel_end = panel + kTaskPanels < panels ? panel + kTaskPanels : panels;
    if (args.step_stride == 1) return ThinTask<Kind, T, true>{args, first, rows, panel, panel_end}.run();
    ThinTask<Kind, T, false>{args, first, rows, panel, panel_end}.run();
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
