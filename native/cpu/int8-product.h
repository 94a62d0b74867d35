#pragma once

// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias with W in int8 panels. For each run of left blocks that fits kCodeBytes: (1) rows
// of x are quantised, and the z of low-rank terms computed from x itself; (2) tasks of some blocks times some panels fill tiles (integer
// products scaled into f32, then the terms as further steps of the same tile) and write them out.
//
// Engine multiplies one block by one panel, in a task that has an engine of its own:
//   kBlockRows                                    rows of a left block
//   passes(groups)                                how often a task goes over its blocks and panels
//   multiply(Int8Block, begin, end, tile)         tile[rows][32] (+)= the groups [begin, end), times the scales of outputs after the last

#include "cpu/int8-rows.h"
#include "cpu/integers.h"
#include "cpu/rounded-output.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr float kInverse127 = 1.0f / 127.0f;

/// One block times one panel: what an engine reads.
struct Int8Block {
  int64_t k, rows;
  Int8Rows left;
  const char* right;    // the panel
  const float* output;  // scales of its outputs, or null
};

/// Extra is the kind of the low-rank terms.
template <class Engine, class Extra>
struct Int8Product {
  static constexpr int64_t kWidth = 2 * kVector, kBlock = Engine::kBlockRows;
  static constexpr int64_t kTile = kBlock * kWidth;

  const GemmArgs& args;
  const RoundedOutput<Extra, kBlock>& output;
  const float* factors;        // of the columns of x, [k], or null
  const float* output_scales;  // [n rounded up to whole panels], or null
  int64_t row_bytes, groups;
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  int64_t first_block = 0;

  Int8Rows left_of(int64_t block) const {
    const int64_t row = (block - first_block) * kBlock;
    return {codes + row * row_bytes, scales + row * groups, row_bytes, groups};
  }

  void quantize(int64_t block) const {
    const int64_t row = (block - first_block) * kBlock;
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + block * kBlock * args.x_row_stride;
      for (int64_t i = 0; i < output.rows_of(block); ++i) {
        quantize_row(x + i * args.x_row_stride, args.x_column_stride, factors, args.k, codes + (row + i) * row_bytes,
                     scales + (row + i) * groups);
      }
    });
  }

  void prefetch_rows(int64_t block, int64_t panel) const {
    const int64_t y_row_bytes = args.y_row_stride * size_of(args.y_dtype);
    const char* y_rows = static_cast<const char*>(args.y) + block * kBlock * y_row_bytes + panel * kWidth * size_of(args.y_dtype);
    for (int64_t row = 0; row < output.rows_of(block); ++row) __builtin_prefetch(y_rows + row * y_row_bytes, 1);
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end).
  void fill(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end) const {
    const int64_t passes = Engine::passes(groups), pass_groups = within(ceil_div(groups, passes), 1, groups + 1);
    Scratch tiles((passes > 1 ? (block_end - block_begin) * (panel_end - panel_begin) : 1) * kTile * static_cast<int64_t>(sizeof(float)));
    Engine engine;
    for (int64_t begin = 0; begin == 0 || begin < groups; begin += pass_groups) {
      const int64_t end = smaller(begin + pass_groups, groups);
      auto* tile = tiles.as<float>();
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        const char* right = static_cast<const char*>(args.right.panels) + panel * int8_panel_stride(kThisLevel, args.k);
        const float* panel_scales = output_scales == nullptr ? nullptr : output_scales + panel * kWidth;
        for (int64_t block = block_begin; block < block_end; ++block) {
          if (end == groups) prefetch_rows(block, panel);
          engine.multiply({args.k, output.rows_of(block), left_of(block), right, panel_scales}, begin, end, tile);
          if (end == groups) output.finish(block, panel, tile);
          if (passes > 1) tile += kTile;
        }
      }
    }
  }

  void run() {
    const int64_t blocks = ceil_div(args.m, kBlock), panels = ceil_div(args.n, kWidth);
    const bool small = args.m * args.k * (args.n + 16) < (1 << 18);
    const int64_t block_bytes = row_bytes * kBlock;
    const int64_t chunk = within(kCodeBytes / block_bytes, 8, blocks);
    Scratch code_memory(chunk * block_bytes), scale_memory(chunk * kBlock * groups * static_cast<int64_t>(sizeof(float)));
    codes = code_memory.as<uint8_t>();
    scales = scale_memory.as<float>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = smaller(first_block + chunk, blocks);
      for_tasks(small, end - first_block, [&](int64_t task) {
        quantize(first_block + task);
        output.shrink(first_block + task);
      });
      const int64_t count = end - first_block, parts = ceil_div(count, within(kCodeGroupBytes / block_bytes, 4, count));
      const int64_t group = ceil_div(count, parts);
      // Panels of a task: so many tasks that no thread waits long for the last one. The cut does not change a bit of the result.
      const int64_t shares = ceil_div(panels, within(panels * parts / (32 * thread_count()), 1, 16)), share = ceil_div(panels, shares);
      for_tasks(small, parts * shares, [&](int64_t task) {
        const int64_t panel_begin = task % shares * share, panel_end = within(panel_begin + share, 0, panels);
        const int64_t begin = first_block + task / shares * group, block_end = within(begin + group, 0, end);
        if (panel_begin < panel_end && begin < block_end) fill(begin, block_end, panel_begin, panel_end);
      });
    }
  }
};

template <class Engine, class Extra>
void run_int8(const GemmArgs& args) {
  constexpr int64_t kWidth = 2 * kVector;
  const int64_t scaled = args.right.turned ? args.k : args.n;
  const int64_t padded = ceil_div(scaled, kWidth) * kWidth;
  Scratch weight_scales(padded * static_cast<int64_t>(sizeof(float)));
  for (int64_t i = 0; i < padded; ++i) weight_scales.as<float>()[i] = i < scaled ? args.right.scales[i] * kInverse127 : 0;
  const RoundedOutput<Extra, Engine::kBlockRows> output(args);
  Int8Product<Engine, Extra>{args,
                             output,
                             args.right.turned ? weight_scales.as<float>() : nullptr,
                             args.right.turned ? nullptr : weight_scales.as<float>(),
                             code_row_bytes(args.k),
                             int8_groups(args.k)}
      .run();
}

}  // namespace lorikeet::LORIKEET_LEVEL
