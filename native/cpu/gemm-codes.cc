// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias with the codes of W in GGUF blocks: w = scale (code - offset) + shift. (1) Rows of
// x are rounded to 8 bits in groups of 32 columns, and the z of low-rank terms computed from x itself; (2) tasks of some panels fill tiles
// (integer products scaled into f32, the terms) and write them out. A few rows are multiplied with blocks as they lie, more of them with
// panels of codes that the task makes.

#include "cpu/level.h"

#include "cpu/code-panels.h"
#include "cpu/gemm-codes.h"
#include "cpu/rounded-group.h"
#include "cpu/rounded-output.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kPanelBytes = 256 << 10;  // panels of one task, made before they are read
inline constexpr int64_t kShareBytes = 1 << 20;    // blocks of a task that reads them but once: long streams are fast

template <class Extra, class Block>
struct CodesProduct {
  using Form = FormOf<Block>;
  using Codes = BlockCodes<Block>;

  const GemmArgs& args;
  const RoundedOutput<Extra, kRows>& output;
  int64_t row_bytes, groups;
  int8_t* codes = nullptr;
  RoundedGroup* scales = nullptr;
  int64_t first_block = 0;

  RoundedRows left_of(int64_t block) const {
    const int64_t row = (block - first_block) * kRows;
    return {codes + row * row_bytes, scales + row * groups, row_bytes, groups};
  }

  template <class T>
  void round_row(const T* x, int8_t* row, RoundedGroup* group) const {
    for (int64_t first = 0; first < args.k; first += kQuantizedGroup, row += kQuantizedGroup, ++group) {
      int32_t sums[2];
      group->scale = round_group(x + first * args.x_column_stride, args.x_column_stride, row, sums);
      group->sum = group->scale * static_cast<float>(sums[0] + sums[1]);
      group->start[0] = -Codes::kOffset * (Codes::kScales == 1 ? sums[0] + sums[1] : sums[0]);
      group->start[1] = -Codes::kOffset * sums[1];
    }
  }

  void round(int64_t block) const {
    const int64_t row = (block - first_block) * kRows;
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + block * kRows * args.x_row_stride;
      for (int64_t i = 0; i < output.rows_of(block); ++i) {
        round_row(x + i * args.x_row_stride, codes + (row + i) * row_bytes, scales + (row + i) * groups);
      }
    });
  }

  void fill(int64_t block, int64_t panel, const void* right) const {
    alignas(64) float tile[kTileBytes / sizeof(float)];
    codes_micro_for<Form>(output.rows_of(block))(left_of(block), right, tile);
    output.finish(block, panel, tile);
  }

  /// All rows are of one block and few.
  void run_few(int64_t panels) const {
    const int64_t threads = thread_count(), panel_bytes = kCodeWidth * args.right.quantized.row_bytes;
    const int64_t shares = threads * within(panels * panel_bytes / (threads * kShareBytes), 1, 8), share = ceil_div(panels, shares);
    for_tasks(args.k * args.n < (1 << 16), ceil_div(panels, share), [&](int64_t task) {
      const int64_t begin = task * share, end = smaller(begin + share, panels);
      Scratch made(code_panel_bytes<Block>(args.k));
      for (int64_t panel = begin; panel < end; ++panel) {
        alignas(64) float tile[kTileBytes / sizeof(float)];
        if (few_code_rows<Block>(args.right.quantized, panel * kCodeWidth, args.m, left_of(0), tile)) {
          output.finish(0, panel, tile);
        } else {
          code_panel<Block>(args.right.quantized, panel * kCodeWidth, made.as<void>());
          fill(0, panel, made.as<void>());
        }
      }
    });
  }

  /// Blocks from first_block to `end`: a task makes some panels and walks its part of the blocks in groups.
  void run_many(int64_t end, int64_t panels) const {
    const int64_t threads = thread_count(), count = end - first_block, stride = code_panel_bytes<Block>(args.k);
    const int64_t groups_of_blocks = ceil_div(count, within(kCodeGroupBytes / (row_bytes * kRows), 4, count));
    const int64_t group = ceil_div(count, groups_of_blocks);
    const int64_t share = within(kPanelBytes / stride, 1, within(panels / (4 * threads), 1, panels)), shares = ceil_div(panels, share);
    int64_t parts = 1;
    while (parts < groups_of_blocks && shares * parts % threads != 0 && shares * parts < 16 * threads) ++parts;
    const int64_t part = ceil_div(groups_of_blocks, parts) * group;
    const bool small = args.m * args.k * args.n < (1 << 18);
    for_tasks(small, ceil_div(count, part) * shares, [&](int64_t task) {
      const int64_t panel_begin = task % shares * share, panel_end = smaller(panel_begin + share, panels);
      const int64_t part_begin = first_block + task / shares * part, part_end = smaller(part_begin + part, end);
      Scratch made((panel_end - panel_begin) * stride);
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        code_panel<Block>(args.right.quantized, panel * kCodeWidth, made.as<char>() + (panel - panel_begin) * stride);
      }
      for (int64_t begin = part_begin; begin < part_end; begin += group) {
        for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
          const char* right = made.as<char>() + (panel - panel_begin) * stride;
          for (int64_t block = begin; block < smaller(begin + group, part_end); ++block) fill(block, panel, right);
        }
      }
    });
  }

  void run() {
    const int64_t blocks = ceil_div(args.m, kRows), panels = ceil_div(args.n, kCodeWidth);
    const int64_t chunk = within(kCodeBytes / (row_bytes * kRows), 8, blocks);
    Scratch code_memory(chunk * kRows * row_bytes), scale_memory(chunk * kRows * groups * static_cast<int64_t>(sizeof(RoundedGroup)));
    codes = code_memory.as<int8_t>();
    scales = scale_memory.as<RoundedGroup>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = smaller(first_block + chunk, blocks);
      for_tasks(args.m * args.k < (1 << 16), end - first_block, [&](int64_t task) {
        round(first_block + task);
        output.shrink(first_block + task);
      });
      if (args.y == nullptr) continue;
      if (args.m <= kFewCodeRows) return run_few(panels);
      run_many(end, panels);
    }
  }
};

template <class Extra>
void run_codes(const GemmArgs& args) {
  const RoundedOutput<Extra, kRows> output(args);
  const int64_t row_bytes = code_row_bytes(args.k), groups = args.k / kQuantizedGroup;
  LORIKEET_BLOCK_SWITCH(args.right.quantized.format, Block, CodesProduct<Extra, Block>{args, output, row_bytes, groups}.run())
}

void gemm_codes(const GemmArgs& args) {
#if defined(__AVX512BF16__)
  if (args.arithmetic == Arithmetic::bf16_pairs) return run_codes<KindPairs>(args);
#endif
  run_codes<KindF32>(args);
}

}  // namespace lorikeet::LORIKEET_LEVEL
