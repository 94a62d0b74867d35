// y = x · Wᵀ + Σ low-rank terms + bias for bf16 operands, by tiles. Products of int8 panels are those of cpu/gemm-int8-tiles.cc, every
// other arithmetic is that of the level below, and so are all layouts. (1) Blocks of 32 rows of x are packed in tile rows, and the z of
// low-rank terms computed from them. (2) Tasks of some blocks times some panels go over the contraction in passes that keep a panel in a
// level-1 cache, their accumulators in a level-2 cache; the last pass adds the terms as further steps and writes out. Panels made on the
// fly are made by the task that reads them.

#include "cpu/level.h"

#if defined(__AMX_BF16__)

#include "core/tiles.h"
#include "cpu/gemm-int8.h"
#include "cpu/integers.h"
#include "cpu/retiled-panels.h"
#include "cpu/tile-amx.h"
#include "cpu/tile-emulated.h"
#include "cpu/tile-operands.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kPackedBytes = 16 << 20;  // packed left operand in flight
inline constexpr int64_t kPassDepth = 256;         // contraction elements of a pass when there are several
inline constexpr int64_t kOnePassDepth = 384;      // up to here one pass does
inline constexpr int64_t kGroupBlocks = 16;        // blocks of a task: with kTaskPanels, half a megabyte of accumulators
inline constexpr int64_t kTaskPanels = 8;
inline constexpr int64_t kMadePanelBytes = 512 << 10;  // panels of one task that are made on the fly
inline constexpr int64_t kBlockBytes = kTileBlock * kTileBlock * sizeof(float);

/// Out of line: it is large, and both policies use it.
[[gnu::noinline]] static void made_panel(const GemmArgs& args, int64_t panel, void* out) {
  make_panel(args.right, args.k, args.n, panel, out);
}

template <class Tiles>
struct TileProduct {
  const GemmArgs& args;
  const BlockTerms& terms;
  const float* bias;
  char* packed_z;
  char* left = nullptr;  // of the blocks from first_block on
  int64_t first_block = 0;

  int64_t rows_of(int64_t block) const { return within(args.m - block * kTileBlock, 0, kTileBlock); }
  char* left_of(int64_t block) const { return left + (block - first_block) * tile_left_bytes(args.k); }

  void prepare(int64_t block) const {
    const auto* x = static_cast<const BFloat16*>(args.x) + block * kTileBlock * args.x_row_stride;
    pack_tile_rows(left_of(block), x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
    TileRegion<Tiles> region;
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      shrink_tile_rows(region, args, *part, left_of(block), packed_z + part->packed);
    }
  }

  void write(const float* c, int64_t block, int64_t first, int64_t columns) const {
    const int64_t rows = rows_of(block), offset = block * kTileBlock * args.y_row_stride + first;
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + offset;
      for (int64_t row = 0; row < rows; ++row, c += kTileBlock, y += args.y_row_stride) {
        for (int64_t j = 0; j < columns; ++j) store(y + j, static_cast<compute_t<T>>(bias == nullptr ? c[j] : c[j] + bias[first + j]));
      }
    });
  }

  /// The last pass of one block and panel: `chain` of the weight, then the terms. A first term that has the whole block joins the chain
  /// of the weight in the accumulators; the bits are the same either way.
  void finish(TileRegion<Tiles>& region, int64_t block, int64_t panel, const TileChain& chain, LastStep& last, float* c,
              bool accumulate) const {
    const int64_t rows = rows_of(block), first = panel * kTileBlock, columns = within(args.n - first, 0, kTileBlock);
    TileChain chains[2] = {chain, {}};
    int64_t count = 1;
    const BlockTerm* part = terms.begin(block);
    if (part != terms.end(block) && part->rows == rows && !args.terms[part->term].mask_output) {
      chains[count++] = expand_chain(args.terms[part->term], packed_z + part->packed, panel, last);
    }
    tile_product(region, rows, columns, 2, chains, count, c, accumulate);
    if (count == 2) {
      add_term_bias(args.terms[part->term], *part, first, columns, c);
      ++part;
    }
    for (; part != terms.end(block); ++part) {
      const LowRankTerm& term = args.terms[part->term];
      expand_tile_rows(region, args, *part, expand_chain(term, packed_z + part->packed, panel, last), first, columns, c);
      add_term_bias(term, *part, first, columns, c);
    }
    write(c, block, first, columns);
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands begin at `right`.
  void fill(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const char* right, int64_t stride) const {
    const int64_t k = args.right.empty() ? 0 : args.k;
    const int64_t passes = k > kOnePassDepth ? ceil_div(k, kPassDepth) : 1;
    const int64_t depth = passes > 1 ? ceil_div(tile_steps(k), passes) * kTileDepth : within(k, 1, k + 1);
    Scratch memory(kBlockBytes * (passes > 1 ? (block_end - block_begin) * (panel_end - panel_begin) : 1));
    TileRegion<Tiles> region;
    LastStep last_of_weight, last_of_term;
    for (int64_t begin = 0; begin == 0 || begin < k; begin += depth) {
      const bool is_last = begin + depth >= k;
      auto* c = memory.as<float>();
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        const char* weight = right + (panel - panel_begin) * stride;
        TileChain chain{nullptr, weight + begin / 2 * kPairBytes, is_last ? k - begin : depth, nullptr};
        if (is_last) chain.last = last_of_weight.of(weight, k, kPairBytes);
        for (int64_t block = block_begin; block < block_end; ++block) {
          chain.left = left_of(block) + begin / kTileDepth * kLeftStepBytes;
          if (is_last) {
            finish(region, block, panel, chain, last_of_term, c, begin > 0);
          } else {
            tile_product(region, rows_of(block), kTileBlock, 2, &chain, 1, c, begin > 0);
          }
          if (passes > 1) c += kTileBlock * kTileBlock;
        }
      }
    }
  }

  void run() {
    const int64_t blocks = ceil_div(args.m, kTileBlock), panels = ceil_div(args.n, kTileBlock);
    const bool small = args.m * args.k * (args.n + 16) < (1 << 17);
    const int64_t chunk = within(kPackedBytes / (tile_left_bytes(args.k) + 1), 4, blocks);
    Scratch memory(chunk * tile_left_bytes(args.k));
    left = memory.as<char>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = smaller(first_block + chunk, blocks);
      for_tasks(small, end - first_block, [&](int64_t task) { prepare(first_block + task); });
      if (args.y != nullptr) fill_chunk(end, panels, small);
    }
  }

  /// All panels of the blocks from first_block to `end`. How they are cut into tasks does not change a bit of the result.
  void fill_chunk(int64_t end, int64_t panels, bool small) const {
    const bool makes = args.right.is_made();
    const int64_t stride = panel_stride(kThisLevel, Panel::bf16, args.k, 2);
    const int64_t groups = ceil_div(end - first_block, kGroupBlocks), group = ceil_div(end - first_block, groups);
    int64_t share = within(panels * groups / (4 * thread_count()), 1, kTaskPanels), groups_of_task = 1;
    if (makes) {
      share = within(kMadePanelBytes / (stride + 1), 1, share);
      groups_of_task = within(groups * ceil_div(panels, share) / thread_count(), 1, groups);
    }
    const int64_t shares = ceil_div(panels, share);
    for_tasks(small, ceil_div(groups, groups_of_task) * shares, [&](int64_t task) {
      const int64_t panel_begin = task % shares * share, panel_end = smaller(panel_begin + share, panels);
      const int64_t begin = first_block + task / shares * groups_of_task * group, part_end = smaller(begin + groups_of_task * group, end);
      Scratch made(makes ? (panel_end - panel_begin) * stride : 0);
      const char* right = makes ? made.as<char>() : static_cast<const char*>(args.right.panels) + panel_begin * stride;
      for (int64_t panel = panel_begin; makes && panel < panel_end; ++panel) {
        made_panel(args, panel, made.as<char>() + (panel - panel_begin) * stride);
      }
      for (int64_t block = begin; block < part_end; block += group) {
        fill(block, smaller(block + group, part_end), panel_begin, panel_end, right, stride);
      }
    });
  }
};

template <class Tiles>
void run_tiles(const GemmArgs& args) {
  Scratch bias_memory(args.bias == nullptr ? 0 : args.n * static_cast<int64_t>(sizeof(float)));
  auto* bias = args.bias == nullptr ? nullptr : bias_memory.as<float>();
  if (bias != nullptr) {
    LORIKEET_FLOAT_SWITCH(
        args.bias_dtype, T,
        for (int64_t j = 0; j < args.n; ++j) { bias[j] = static_cast<float>(load(static_cast<const T*>(args.bias) + j)); });
  }
  const BlockTerms terms(args, kTileBlock, tile_left_bytes);
  Scratch packed(terms.packed_bytes());
  TileProduct<Tiles>{args, terms, bias, packed.as<char>()}.run();
}

void gemm_tiles(const GemmArgs& args) {
  if (args.m == 0 || (args.y != nullptr && args.n == 0)) return;
  if (args.right.panel == Panel::int8 && !args.right.empty()) return gemm_int8(args);
  if (args.arithmetic != Arithmetic::bf16_pairs) return gemm_kernel.at_level(Level::avx512_bf16)(args);
  if (tiles_emulated()) return run_tiles<EmulatedTiles>(args);
  run_tiles<AmxTiles>(args);
}

LORIKEET_KERNEL(gemm_kernel, gemm_tiles)

}  // namespace lorikeet::LORIKEET_LEVEL

#endif
