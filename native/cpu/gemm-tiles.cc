// y = x · Wᵀ + Σ low-rank terms + bias for bf16 operands, by tiles. Products of int8 panels are those of cpu/gemm-int8-tiles.cc, every
// other arithmetic is that of the level below, and so are all layouts. (1) Blocks of 32 rows of x are packed in tile rows, and the z of
// low-rank terms computed from them. (2) Tasks of some blocks times some panels go over the contraction in passes that keep a panel in a
// level-1 cache, their accumulators in a level-2 cache; the last pass adds the terms as further steps and writes out. Panels made on the
// fly are made by the task that reads them. Products that are summed are added to the output one after the other.

#include "cpu/level.h"

#if defined(__AMX_BF16__)

#include "core/tiles.h"
#include "cpu/gemm-int8.h"
#include "cpu/integers.h"
#include "cpu/output-rows.h"
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

  /// Writes accumulators out, or adds what they are rounded to to what is there.
  void write(const float* c, int64_t block, int64_t first, int64_t columns, bool add) const {
    const int64_t rows = rows_of(block), offset = block * kTileBlock * args.y_row_stride + first;
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + offset;
      for (int64_t row = 0; row < rows; ++row, c += kTileBlock, y += args.y_row_stride) {
        for (int64_t j = 0; j < columns; ++j) {
          T value;
          store(&value, static_cast<compute_t<T>>(bias == nullptr ? c[j] : c[j] + bias[first + j]));
          store(y + j, add ? load(y + j) + load(&value) : load(&value));
        }
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
  }

  int64_t contraction() const { return args.right.empty() ? 0 : args.k; }
  int64_t passes() const { return contraction() > kOnePassDepth ? ceil_div(contraction(), kPassDepth) : 1; }
  int64_t panel_bytes() const { return panel_stride(kThisLevel, Panel::bf16, args.k, 2); }
  const char* panels_from(int64_t panel) const { return static_cast<const char*>(args.right.panels) + panel * panel_bytes(); }
};

/// Products that are added up, in their order, to the output of the first.
template <class Tiles>
struct TileSum {
  TileProduct<Tiles>* products[kMostJoint];
  int64_t count = 0;

  /// Product `i` of blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands begin at `right`.
  /// Accumulators are `step` apart in memory: 0 where none waits for a further pass.
  void add(int64_t i, int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const char* right, float* memory,
           int64_t step) const {
    const TileProduct<Tiles>& p = *products[i];
    const int64_t k = p.contraction(), passes = p.passes(), stride = p.panel_bytes();
    const int64_t depth = passes > 1 ? ceil_div(tile_steps(k), passes) * kTileDepth : within(k, 1, k + 1);
    TileRegion<Tiles> region;
    LastStep last_of_weight, last_of_term;
    for (int64_t begin = 0; begin == 0 || begin < k; begin += depth) {
      const bool is_last = begin + depth >= k, accumulate = begin > 0;
      float* c = memory;
      for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
        const char* weight = right + (panel - panel_begin) * stride;
        TileChain chain{nullptr, weight + begin / 2 * kPairBytes, is_last ? k - begin : depth, nullptr};
        if (is_last) chain.last = last_of_weight.of(weight, k, kPairBytes);
        for (int64_t block = block_begin; block < block_end; ++block, c += step) {
          chain.left = p.left_of(block) + begin / kTileDepth * kLeftStepBytes;
          if (is_last) {
            p.finish(region, block, panel, chain, last_of_term, c, accumulate);
            const int64_t first = panel * kTileBlock;
            products[0]->write(c, block, first, within(p.args.n - first, 0, kTileBlock), i > 0);
          } else {
            tile_product(region, p.rows_of(block), kTileBlock, 2, &chain, 1, c, accumulate);
          }
        }
      }
    }
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands begin at `right`.
  void fill(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const char* const* right) const {
    bool wait = false;
    for (int64_t i = 0; i < count; ++i) wait = wait || products[i]->passes() > 1;
    Scratch memory(kBlockBytes * (wait ? (block_end - block_begin) * (panel_end - panel_begin) : 1));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t step = products[i]->passes() > 1 ? kTileBlock * kTileBlock : 0;
      add(i, block_begin, block_end, panel_begin, panel_end, right[i], memory.as<float>(), step);
    }
  }

  /// All panels of the blocks from `begin` to `end`. How they are cut into tasks does not change a bit of the result.
  void fill_chunk(int64_t begin, int64_t end, bool small) const {
    int64_t made_bytes = 0;
    for (int64_t i = 0; i < count; ++i) made_bytes += products[i]->args.right.is_made() ? products[i]->panel_bytes() : 0;
    const int64_t panels = ceil_div(products[0]->args.n, kTileBlock);
    const int64_t groups = ceil_div(end - begin, kGroupBlocks), group = ceil_div(end - begin, groups);
    int64_t share = within(panels * groups / (4 * thread_count()), 1, kTaskPanels), groups_of_task = 1;
    if (made_bytes > 0) {
      share = within(kMadePanelBytes / (made_bytes + 1), 1, share);
      groups_of_task = within(groups * ceil_div(panels, share) / thread_count(), 1, groups);
    }
    const int64_t shares = ceil_div(panels, share);
    for_tasks(small, ceil_div(groups, groups_of_task) * shares, [&](int64_t task) {
      const int64_t panel_begin = task % shares * share, panel_end = smaller(panel_begin + share, panels);
      const int64_t part_begin = begin + task / shares * groups_of_task * group,
                    part_end = smaller(part_begin + groups_of_task * group, end);
      Scratch made((panel_end - panel_begin) * made_bytes);
      char* free = made.as<char>();
      const char* right[kMostJoint];
      for (int64_t i = 0; i < count; ++i) {
        const TileProduct<Tiles>& p = *products[i];
        const bool makes = p.args.right.is_made();
        right[i] = makes ? free : p.panels_from(panel_begin);
        for (int64_t panel = panel_begin; makes && panel < panel_end; ++panel, free += p.panel_bytes()) made_panel(p.args, panel, free);
      }
      for (int64_t block = part_begin; block < part_end; block += group) {
        fill(block, smaller(block + group, part_end), panel_begin, panel_end, right);
      }
    });
  }

  void run() const {
    const int64_t blocks = ceil_div(products[0]->args.m, kTileBlock);
    int64_t block_bytes = 0, work = 0;
    for (int64_t i = 0; i < count; ++i) {
      block_bytes += tile_left_bytes(products[i]->args.k);
      work += products[i]->args.m * products[i]->args.k * (products[i]->args.n + 16);
    }
    const bool small = work < (1 << 17);
    const int64_t chunk = within(kPackedBytes / (block_bytes + 1), 4, blocks);
    Scratch memory(chunk * block_bytes);
    char* free = memory.as<char>();
    for (int64_t i = 0; i < count; ++i) {
      products[i]->left = free;
      free += chunk * tile_left_bytes(products[i]->args.k);
    }
    for (int64_t begin = 0; begin < blocks; begin += chunk) {
      const int64_t end = smaller(begin + chunk, blocks);
      for (int64_t i = 0; i < count; ++i) products[i]->first_block = begin;
      for_tasks(small, end - begin, [&](int64_t task) {
        for (int64_t i = 0; i < count; ++i) products[i]->prepare(begin + task);
      });
      if (products[0]->args.y != nullptr) fill_chunk(begin, end, small);
    }
  }
};

/// Adds the products from number sum.count on, and runs the sum while their memory lives.
template <class Tiles>
void run_tiles(const GemmArgs* products, int64_t count, TileSum<Tiles>& sum) {
  if (sum.count == count) return sum.run();
  const GemmArgs& args = products[sum.count];
  if (args.y != nullptr && args.n == 0) return;  // so have all
  const WideBias<float> bias(args);
  const BlockTerms terms(args, kTileBlock, tile_left_bytes);
  Scratch packed(terms.packed_bytes());
  TileProduct<Tiles> product{args, terms, bias.values(), packed.as<char>()};
  sum.products[sum.count++] = &product;
  run_tiles(products, count, sum);
}

template <class Tiles>
void run_sum(const GemmArgs* products, int64_t count) {
  TileSum<Tiles> sum;
  run_tiles(products, count, sum);
}

void gemm_tiles_joint(const GemmJointArgs& joint) {
  const GemmArgs& first = joint.products[0];
  if (first.m == 0) return;
  if (first.right.panel == Panel::int8 && !first.right.empty()) {
    for (int64_t i = 0; i < joint.count; ++i) {
      if (joint.products[i].n > 0) gemm_int8(joint.products[i]);
    }
    return;
  }
  if (first.arithmetic != Arithmetic::bf16_pairs) return gemm_joint_kernel.at_level(Level::avx512_bf16)(joint);
  const auto run = tiles_emulated() ? run_sum<EmulatedTiles> : run_sum<AmxTiles>;
  if (joint.summed) return run(joint.products, joint.count);
  for (int64_t i = 0; i < joint.count; ++i) run(joint.products + i, 1);
}

void gemm_tiles(const GemmArgs& args) { gemm_tiles_joint({&args, 1, false}); }

LORIKEET_KERNEL(gemm_kernel, gemm_tiles)
LORIKEET_KERNEL(gemm_joint_kernel, gemm_tiles_joint)

}  // namespace lorikeet::LORIKEET_LEVEL

#endif
