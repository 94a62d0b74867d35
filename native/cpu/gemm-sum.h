#pragma once

// Products of packed panels that are added up to one output, each rounded as it would be alone: how their tiles are filled, in passes over
// the contractions one after the other, and how the output is cut into tasks. Panels made on the fly (of a W in blocks or in rows, of the
// transpose of a packed one) are made by the task that reads them, which then takes as many blocks as it can; of long transposed ones only
// the steps of one pass at a time.

#include "cpu/gemm-low-rank.h"
#include "cpu/integers.h"
#include "cpu/output-rows.h"
#include "cpu/retiled-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kPassSteps = 384;         // of the contraction in one pass
inline constexpr int64_t kAliasBytes = 4096;       // rows a multiple of it apart fall into one set of a level-1 cache
inline constexpr int64_t kGroupBytes = 384 << 10;  // left blocks read over and over in one pass: they stay in a level-2 cache
inline constexpr int64_t kStrips = 8;              // stretches of weights and terms that go on with sums in registers
inline constexpr int64_t kShare = 16;              // panels of a task at most
inline constexpr int64_t kMadeBytes = 512 << 10;   // panels of one task that are made on the fly
inline constexpr int64_t kWaitingBytes = 4 << 20;  // tiles of one task that wait for the next pass

LORIKEET_INLINE constexpr DType dtype_of(float) { return DType::f32; }
LORIKEET_INLINE constexpr DType dtype_of(double) { return DType::f64; }
LORIKEET_INLINE constexpr DType dtype_of(BFloat16) { return DType::bf16; }

/// Adds what write_row would write.
template <int64_t Width, class T, class Accumulator>
LORIKEET_INLINE void add_row(const Accumulator* source, T* target, int64_t columns) {
  const int64_t count = Width > 0 ? Width : columns;  // a constant where it can be
  for (int64_t j = 0; j < count; ++j) {
    T rounded;
    store(&rounded, static_cast<compute_t<T>>(source[j]));
    store(target + j, load(target + j) + load(&rounded));
  }
}

/// How a product is cut into tasks: `share` panels times `part` blocks, walked in groups of `group` blocks.
struct Cut {
  int64_t group, share, part;
};

/// The panels of a task, `stride` bytes apart.
struct Panels {
  const char* data;
  int64_t stride;
};

/// What a product is to a block and a panel. Main is the kind of the base product, Extra that of the low-rank terms; both take the same
/// left operand.
template <class Main, class Extra>
struct Product {
  using Accumulator = typename Main::Accumulator;
  static constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);

  const GemmArgs& args;
  const BlockTerms& terms;
  const Accumulator* bias;
  char* packed;        // z of the terms
  int64_t steps;       // of the contraction; 0 without a right operand
  int64_t pass_steps;  // of one pass
  bool copies;         // left blocks are copies
  char* copy_memory = nullptr;
  int64_t first_block = 0;

  int64_t rows_of(int64_t block) const { return within(args.m - block * kRows, 0, kRows); }
  int64_t panel_bytes() const { return panel_stride(kThisLevel, args.right.panel, args.k, 2); }

  LeftView left_of(int64_t block) const {
    constexpr int64_t kWord = sizeof(typename Main::Word);
    if (!copies) {
      const int64_t row_bytes = args.x_row_stride * size_of(args.x_dtype);
      return {static_cast<const char*>(args.x) + block * kRows * row_bytes, row_bytes, kWord};
    }
    return {copy_memory + (block - first_block) * left_bytes<Main>(args.k), kWord, kRows * kWord};
  }

  void copy(int64_t block) const {
    char* target = copy_memory + (block - first_block) * left_bytes<Main>(args.k);
    const int64_t offset = block * kRows * args.x_row_stride;
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + offset;
      copy_left<Main>(target, x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
    });
  }

  /// Whether a term can go on with the sums of a whole block.
  bool in_registers(const BlockTerm& part, int64_t block) const {
    const LowRankTerm& term = args.terms[part.term];
    return __is_same(Main, Extra) && part.rows == rows_of(block) && !term.mask_output && term.bias == nullptr;
  }

  /// Where whole rows of a panel go as they are in registers; else null.
  char* rows_in_registers(int64_t block, int64_t panel) const {
    const bool stored_so = args.y_dtype == dtype_of(Accumulator{}) || args.y_dtype == dtype_of(typename Main::Row{});
    if (bias != nullptr || (panel + 1) * kWidth > args.n || !stored_so) return nullptr;
    return static_cast<char*>(args.y) + (block * kRows * args.y_row_stride + panel * kWidth) * size_of(args.y_dtype);
  }

  /// Writes a tile out, or adds it to what is there.
  void write(const Accumulator* tile, int64_t block, int64_t panel, bool add) const {
    const int64_t first = panel * kWidth, rows = rows_of(block);
    const int64_t columns = within(args.n - first, 0, kWidth);
    const int64_t offset = block * kRows * args.y_row_stride + first;
    const Accumulator* panel_bias = bias == nullptr ? nullptr : bias + first;
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + offset;
      for (int64_t row = 0; row < rows; ++row, tile += kWidth, y += args.y_row_stride) {
        if (columns == kWidth) {
          add ? add_row<kWidth>(tile, y, columns) : write_row<kWidth>(tile, panel_bias, y, columns);
        } else {
          add ? add_row<0>(tile, y, columns) : write_row<0>(tile, panel_bias, y, columns);
        }
      }
    });
  }
};

/// What one pass goes through: steps [begin, begin + count) of product `first`; or all of products [first, end), which are short.
struct Pass {
  int64_t first, end, begin, count;
};

/// Products that are added up, in their order, to the output of the first.
template <class Main, class Extra>
struct Sum {
  using P = Product<Main, Extra>;
  using Accumulator = typename Main::Accumulator;
  static constexpr int64_t kWidth = P::kWidth;
  static constexpr int64_t kTileSize = kTileBytes / sizeof(Accumulator);

  P* const* products;
  int64_t count;

  Pass pass_from(int64_t first, int64_t begin) const {
    const P& product = *products[first];
    Pass pass{first, first + 1, begin, smaller(product.pass_steps, product.steps - begin)};
    if (pass.count < product.steps) return pass;
    for (int64_t steps = product.steps; pass.end < count; ++pass.end) {
      steps += products[pass.end]->steps;
      if (steps > kPassSteps) break;
    }
    return pass;
  }
  /// Whether the pass comes to the end of its products, where their terms follow.
  bool ends(const Pass& pass) const { return pass.begin + pass.count == products[pass.first]->steps; }
  bool is_last(const Pass& pass) const { return ends(pass) && pass.end == count; }
  Pass after(const Pass& pass) const { return ends(pass) ? pass_from(pass.end, 0) : pass_from(pass.first, pass.begin + pass.count); }
  bool in_one_pass() const { return is_last(pass_from(0, 0)); }
  /// Whether some product takes several passes.
  bool tiles_wait() const {
    bool wait = false;
    for (int64_t i = 0; i < count; ++i) wait = wait || products[i]->pass_steps < products[i]->steps;
    return wait;
  }
  int64_t steps_of_product(const Pass& pass, int64_t i) const { return pass.end - pass.first > 1 ? products[i]->steps : pass.count; }
  int64_t steps_of_pass(const Pass& pass) const {
    int64_t steps = 0;
    for (int64_t i = pass.first; i < pass.end; ++i) steps += steps_of_product(pass, i);
    return steps;
  }
  int64_t longest_pass() const {
    int64_t most = 0;
    for (Pass pass = pass_from(0, 0);; pass = after(pass)) {
      most = larger(most, steps_of_pass(pass));
      if (is_last(pass) || most >= kPassSteps) return most;
    }
  }

  /// One tile of every product of a pass: its stretch of the contraction and, where that ends, the terms and the way out.
  void fill_tile(int64_t block, int64_t panel, const Pass& pass, const char* const* right, Accumulator* tile, Ahead ahead) const {
    const Micro product = micro_for<Main, 2>(products[0]->rows_of(block));
    for (int64_t i = pass.first; i < pass.end; ++i) {
      const P& p = *products[i];
      Strip strips[kStrips];
      int64_t held = 0;
      bool accumulate = pass.begin > 0;
      const auto leave = [&](const Sums& sums) {
        product(strips, held, sums, ahead);
        accumulate = true;
        held = 0;
        ahead = {};
      };
      const auto next = [&]() -> Strip& {
        if (held == kStrips) leave({tile, accumulate});
        return strips[held++];
      };
      next() = strip_of(steps_of_product(pass, i), p.left_of(block).from_word(pass.begin * Main::kWords), right[i]);
      if (!ends(pass)) return leave({tile, accumulate});
      for (const BlockTerm* part = p.terms.begin(block); part != p.terms.end(block); ++part) {
        if (p.in_registers(*part, block)) {
          next() = expand_strip<Extra>(p.args, *part, p.packed + part->packed, panel);
        } else {
          if (held > 0) leave({tile, accumulate});
          expand_tile<Extra>(p.args, *part, p.packed + part->packed, panel, tile);
        }
      }
      const P& out = *products[0];
      char* rows = i == 0 && held > 0 ? out.rows_in_registers(block, panel) : nullptr;
      if (rows != nullptr) {
        const bool wide = out.args.y_dtype == dtype_of(Accumulator{});
        leave({tile, accumulate, rows, out.args.y_row_stride * size_of(out.args.y_dtype), wide});
      } else {
        if (held > 0) leave({tile, accumulate});
        out.write(tile, block, panel, i > 0);
      }
    }
  }

  /// One pass of blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose steps of the pass begin at `right`. Where
  /// tiles wait for a further pass `tile` holds all of them.
  void fill_pass(const Pass& pass, int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const Panels* right,
                 Accumulator* tile) const {
    const P& first = *products[pass.first];
    const int64_t steps = steps_of_product(pass, pass.first), tile_step = tiles_wait() ? kTileSize : 0;
    const char* steps_at[kMostJoint];
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      for (int64_t i = pass.first; i < pass.end; ++i) steps_at[i] = right[i].data + (panel - panel_begin) * right[i].stride;
      // Every block brings a part of the next panel into the level-2 cache, with the last panel its own part of the next pass.
      Ahead ahead;
      if (panel + 1 < panel_end) {
        ahead = {steps_at[pass.first] + right[pass.first].stride, ceil_div(2 * kVectorBytes, block_end - block_begin)};
      }
      for (int64_t block = block_begin; block < block_end; ++block) {
        if (panel + 1 == panel_end && first.copies && !ends(pass)) {
          const LeftView next = first.left_of(block).from_word((pass.begin + steps) * Main::kWords);
          ahead = {next.data, Main::kWords * next.word_stride};
        }
        fill_tile(block, panel, pass, steps_at, tile, ahead);
        ahead.data += steps * ahead.stride;
        tile += tile_step;
      }
    }
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands are `right`.
  void fill(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const Panels* right) const {
    Scratch tiles(tiles_wait() ? (block_end - block_begin) * (panel_end - panel_begin) * kTileBytes : kTileBytes);
    Panels from[kMostJoint];
    for (Pass pass = pass_from(0, 0);; pass = after(pass)) {
      for (int64_t i = pass.first; i < pass.end; ++i) from[i] = {right[i].data + pass.begin * 2 * kVectorBytes, right[i].stride};
      fill_pass(pass, block_begin, block_end, panel_begin, panel_end, from, tiles.as<Accumulator>());
      if (is_last(pass)) return;
    }
  }

  /// The same in groups of `group` blocks, with panels of the transposes made for one pass at a time.
  void fill_retiled(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, int64_t group) const {
    const int64_t panels = panel_end - panel_begin;
    Scratch tiles((block_end - block_begin) * panels * kTileBytes), memory(panels * longest_pass() * 2 * kVectorBytes);
    Panels made[kMostJoint];
    for (Pass pass = pass_from(0, 0);; pass = after(pass)) {
      char* free = memory.as<char>();
      for (int64_t i = pass.first; i < pass.end; ++i) {
        const GemmArgs& args = products[i]->args;
        const int64_t end = pass.begin + steps_of_product(pass, i), stride = (end - pass.begin) * 2 * kVectorBytes;
        const Contraction part{pass.begin * Main::kDepth, smaller(end * Main::kDepth, args.k)};
        turned_panels(args.right, args.k, args.n, part, panel_begin, panel_end, free, stride);
        made[i] = {free, stride};
        free += panels * stride;
      }
      for (int64_t block = block_begin; block < block_end; block += group) {
        fill_pass(pass, block, smaller(block + group, block_end), panel_begin, panel_end, made,
                  tiles.as<Accumulator>() + (block - block_begin) * panels * kTileSize);
      }
      if (is_last(pass)) return;
    }
  }

  /// Bytes of a panel of every product, or of those alone that are made on the fly.
  int64_t panel_bytes(bool made) const {
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; ++i) bytes += !made || products[i]->args.right.is_made() ? products[i]->panel_bytes() : 0;
    return bytes;
  }

  /// Whether panels are made a pass at a time: those of transposes that can be read in part.
  bool by_pass() const {
    for (int64_t i = 0; i < count; ++i) {
      const RightOperand& right = products[i]->args.right;
      if (!right.retile && !(right.is_stored() && right.turned)) return false;
    }
    return panel_bytes(true) > kMadeBytes && !in_one_pass();
  }

  /// How many of `blocks` and `panels` a task takes. The cut does not change a bit of the result.
  Cut cut_of(int64_t blocks, int64_t panels) const {
    const int64_t threads = thread_count(), steps = longest_pass();
    const int64_t most = within(kGroupBytes / (left_bytes<Main>(steps * Main::kDepth) + 1), 4, blocks);
    if (by_pass()) {
      // A task reads its blocks once a pass, and makes its panels once: it takes many panels, and blocks as far as their tiles may wait.
      const int64_t most_panels = within(kMadeBytes / (steps * 2 * kVectorBytes), 1, ceil_div(panels, threads));
      const int64_t shares = ceil_div(ceil_div(panels, most_panels), threads) * threads, share = ceil_div(panels, shares);
      return {within(most / 2, 1, blocks), share, within(kWaitingBytes / (share * kTileBytes), 1, blocks)};
    }
    if (const int64_t made = panel_bytes(true); made > 0) {
      const int64_t groups = ceil_div(blocks, most), group = ceil_div(blocks, groups);
      const int64_t share = within(kMadeBytes / (made + 1), 1, within(panels / (4 * threads), 1, kShare)), shares = ceil_div(panels, share);
      int64_t parts = 1;
      while (parts < groups && shares * parts % threads != 0 && shares * parts < 16 * threads) ++parts;
      return {group, share, ceil_div(groups, parts) * group};
    }
    // A task reads its blocks once for each panel and its panels once: least when both are as many bytes. In one pass the blocks stay in
    // cache for the next task, so tasks may be small and end evenly.
    const int64_t area = blocks * panels / ((in_one_pass() ? 32 : 8) * threads);
    int64_t share = 1;
    while (share < kShare && (share + 1) * (share + 1) * kWidth <= area * kRows) ++share;
    const int64_t groups = ceil_div(blocks, within(area / share, smaller(4, blocks), most)), group = ceil_div(blocks, groups);
    return {group, share, group};
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end) as one task.
  void run(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, int64_t group) const {
    if (by_pass()) return fill_retiled(block_begin, block_end, panel_begin, panel_end, group);
    const int64_t panels = panel_end - panel_begin;
    Scratch memory(panels * panel_bytes(true));
    char* free = memory.as<char>();
    Panels right[kMostJoint];
    for (int64_t i = 0; i < count; ++i) {
      const GemmArgs& args = products[i]->args;
      const int64_t stride = products[i]->panel_bytes();
      if (args.right.is_made()) {
        for (int64_t p = 0; p < panels; ++p) make_panel(args.right, args.k, args.n, panel_begin + p, free + p * stride);
        right[i] = {free, stride};
        free += panels * stride;
      } else {
        right[i] = {static_cast<const char*>(args.right.panels) + panel_begin * stride, stride};
      }
    }
    for (int64_t begin = block_begin; begin < block_end; begin += group) {
      fill(begin, smaller(begin + group, block_end), panel_begin, panel_end, right);
    }
  }
};

}  // namespace lorikeet::LORIKEET_LEVEL
