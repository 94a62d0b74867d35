// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias, on packed panels.
// (1) The z of low-rank terms is computed, and blocks of x that register blocks cannot read as they lie, or not fast, are copied; x that
// needs copies goes through in runs that fit kCopyBytes. (2) Tasks of some blocks times some panels fill tiles (the contraction in passes,
// then the terms as further steps of the same accumulators) and write them out. Panels made on the fly (of a W in blocks or in rows, of the
// transpose of a packed one) are made by the task that reads them, which then takes as many blocks as it can; of long transposed ones only
// the steps of one pass at a time.

#include "cpu/level.h"

#include "cpu/gemm-int8.h"
#include "cpu/gemm-low-rank.h"
#include "cpu/gemm.h"
#include "cpu/gemv.h"
#include "cpu/integers.h"
#include "cpu/retiled-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kCopyBytes = 16 << 20;    // copies of left blocks in flight
inline constexpr int64_t kPassSteps = 384;         // of the contraction in one pass
inline constexpr int64_t kAliasBytes = 4096;       // rows a multiple of it apart fall into one set of a level-1 cache
inline constexpr int64_t kGroupBytes = 384 << 10;  // left blocks read over and over in one pass: they stay in a level-2 cache
inline constexpr int64_t kTermsInRegisters = 3;    // low-rank terms that go on with the sums of the base product
inline constexpr int64_t kShare = 16;              // panels of a task at most
inline constexpr int64_t kMadeBytes = 512 << 10;   // panels of one task that are made on the fly
inline constexpr int64_t kWaitingBytes = 4 << 20;  // tiles of one task that wait for the next pass

LORIKEET_INLINE constexpr DType dtype_of(float) { return DType::f32; }
LORIKEET_INLINE constexpr DType dtype_of(double) { return DType::f64; }
LORIKEET_INLINE constexpr DType dtype_of(BFloat16) { return DType::bf16; }

template <int64_t Width, class T, class Accumulator>
LORIKEET_INLINE void write_row(const Accumulator* source, const Accumulator* bias, T* target, int64_t columns) {
  const int64_t count = Width > 0 ? Width : columns;  // a constant where it can be
  if (bias != nullptr) {
    for (int64_t j = 0; j < count; ++j) store(target + j, static_cast<compute_t<T>>(source[j] + bias[j]));
  } else {
    for (int64_t j = 0; j < count; ++j) store(target + j, static_cast<compute_t<T>>(source[j]));
  }
}

/// How a product is cut into tasks: `share` panels times `part` blocks, walked in groups of `group` blocks.
struct Cut {
  int64_t group, share, part;
};

/// Main is the kind of the base product, Extra that of the low-rank terms; both take the same left operand.
template <class Main, class Extra>
struct Product {
  using Accumulator = typename Main::Accumulator;
  static constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);
  static constexpr int64_t kTileSize = kTileBytes / sizeof(Accumulator);

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

  LeftView left_of(int64_t block) const {
    constexpr int64_t kWord = sizeof(typename Main::Word);
    if (!copies) {
      const int64_t row_bytes = args.x_row_stride * size_of(args.x_dtype);
      return {static_cast<const char*>(args.x) + block * kRows * row_bytes, row_bytes, kWord};
    }
    return {copy_memory + (block - first_block) * left_bytes<Main>(args.k), kWord, kRows * kWord};
  }

  void prepare(int64_t block) const {
    if (copies) {
      char* target = copy_memory + (block - first_block) * left_bytes<Main>(args.k);
      const int64_t offset = block * kRows * args.x_row_stride;
      LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
        const T* x = static_cast<const T*>(args.x) + offset;
        copy_left<Main>(target, x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
      });
    }
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      shrink_block<Extra>(args, *part, left_of(block), packed + part->packed);
    }
  }

  void write(const Accumulator* tile, int64_t block, int64_t panel) const {
    const int64_t first = panel * kWidth, rows = rows_of(block);
    const int64_t columns = within(args.n - first, 0, kWidth);
    const int64_t offset = block * kRows * args.y_row_stride + first;
    const Accumulator* panel_bias = bias == nullptr ? nullptr : bias + first;
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + offset;
      for (int64_t row = 0; row < rows; ++row, tile += kWidth, y += args.y_row_stride) {
        if (columns == kWidth) {
          write_row<kWidth>(tile, panel_bias, y, columns);
        } else {
          write_row<0>(tile, panel_bias, y, columns);
        }
      }
    });
  }

  /// One tile: a stretch of the contraction and, with `last`, the terms and the way out.
  void fill_tile(int64_t block, int64_t panel, const Strip& main, Accumulator* tile, bool accumulate, bool last, Ahead ahead) const {
    const Micro product = micro_for<Main, 2>(rows_of(block));
    if (!last) return product(&main, 1, {tile, accumulate}, ahead);
    Strip strips[1 + kTermsInRegisters] = {strip_of(main.steps, main.left, main.right)};
    int64_t count = 1;
    const BlockTerm *part = terms.begin(block), *end = terms.end(block);
    for (; part != end && count <= kTermsInRegisters && in_registers(*part, block); ++part) {
      strips[count++] = expand_strip<Extra>(args, *part, packed + part->packed, panel);
    }
    const bool whole = part == end && bias == nullptr && (panel + 1) * kWidth <= args.n;
    const bool wide = args.y_dtype == dtype_of(Accumulator{});
    if (whole && (wide || args.y_dtype == dtype_of(typename Main::Row{}))) {
      const int64_t row_bytes = args.y_row_stride * size_of(args.y_dtype);
      char* y = static_cast<char*>(args.y) + block * kRows * row_bytes + panel * kWidth * size_of(args.y_dtype);
      return product(strips, count, {tile, accumulate, y, row_bytes, wide}, ahead);
    }
    product(strips, count, {tile, accumulate}, ahead);
    for (; part != end; ++part) expand_tile<Extra>(args, *part, packed + part->packed, panel, tile);
    write(tile, block, panel);
  }

  /// Whether a term can go on with the sums of a whole block.
  bool in_registers(const BlockTerm& part, int64_t block) const {
    const LowRankTerm& term = args.terms[part.term];
    return __is_same(Main, Extra) && part.rows == rows_of(block) && !term.mask_output && term.bias == nullptr;
  }

  /// The pass from step `begin` on of blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands begin at
  /// `right`. With several passes `tile` holds a tile for each.
  void fill_pass(int64_t begin, int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const char* right,
                 int64_t stride, Accumulator* tile) const {
    const int64_t count = smaller(pass_steps, steps - begin);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel, right += stride) {
      // Every block brings a part of the next panel into the level-2 cache, with the last panel its own part of the next pass.
      Ahead ahead;
      if (panel + 1 < panel_end) ahead = {right + stride, ceil_div(2 * kVectorBytes, block_end - block_begin)};
      for (int64_t block = block_begin; block < block_end; ++block) {
        const LeftView left = left_of(block).from_word(begin * Main::kWords);
        if (panel + 1 == panel_end && copies && begin + count < steps) {
          ahead = {left.from_word(count * Main::kWords).data, Main::kWords * left.word_stride};
        }
        fill_tile(block, panel, strip_of(count, left, right), tile, begin > 0, begin + count == steps, ahead);
        ahead.data += count * ahead.stride;
        if (pass_steps < steps) tile += kTileSize;
      }
    }
  }

  /// Blocks [block_begin, block_end) times panels [panel_begin, panel_end), whose right operands begin at `right`.
  void fill(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, const char* right, int64_t stride) const {
    Scratch tiles(pass_steps < steps ? (block_end - block_begin) * (panel_end - panel_begin) * kTileBytes : kTileBytes);
    for (int64_t begin = 0; begin == 0 || begin < steps; begin += pass_steps) {
      fill_pass(begin, block_begin, block_end, panel_begin, panel_end, right + begin * 2 * kVectorBytes, stride, tiles.as<Accumulator>());
    }
  }

  /// The same in groups of `group` blocks, with panels of the transpose made for one pass at a time.
  void fill_retiled(int64_t block_begin, int64_t block_end, int64_t panel_begin, int64_t panel_end, int64_t group) const {
    const int64_t stride = pass_steps * 2 * kVectorBytes, panels = panel_end - panel_begin;
    Scratch tiles((block_end - block_begin) * panels * kTileBytes), made(panels * stride);
    for (int64_t begin = 0; begin < steps; begin += pass_steps) {
      const Contraction part{begin * Main::kDepth, smaller((begin + pass_steps) * Main::kDepth, args.k)};
      turned_panels(args.right, args.k, args.n, part, panel_begin, panel_end, made.as<char>(), stride);
      for (int64_t block = block_begin; block < block_end; block += group) {
        fill_pass(begin, block, smaller(block + group, block_end), panel_begin, panel_end, made.as<char>(), stride,
                  tiles.as<Accumulator>() + (block - block_begin) * panels * kTileSize);
      }
    }
  }

  /// Whether panels of `stride` bytes are made a pass at a time.
  bool by_pass(int64_t stride) const { return turns() && stride > kMadeBytes && pass_steps < steps; }

  /// Whether panels of the transpose are made from an operand that can be read in part.
  bool turns() const { return args.right.retile || (args.right.is_stored() && args.right.turned); }

  /// How many of `blocks` and `panels` a task takes. The cut does not change a bit of the result.
  Cut cut_of(int64_t blocks, int64_t panels, int64_t stride) const {
    const int64_t threads = thread_count();
    const int64_t most = within(kGroupBytes / (left_bytes<Main>(smaller(args.k, pass_steps * Main::kDepth)) + 1), 4, blocks);
    if (by_pass(stride)) {
      // A task reads its blocks once a pass, and makes its panels once: it takes many panels, and blocks as far as their tiles may wait.
      const int64_t most_panels = within(kMadeBytes / (pass_steps * 2 * kVectorBytes), 1, ceil_div(panels, threads));
      const int64_t shares = ceil_div(ceil_div(panels, most_panels), threads) * threads, share = ceil_div(panels, shares);
      return {within(most / 2, 1, blocks), share, within(kWaitingBytes / (share * kTileBytes), 1, blocks)};
    }
    if (args.right.is_made()) {
      const int64_t groups = ceil_div(blocks, most), group = ceil_div(blocks, groups);
      const int64_t share = within(kMadeBytes / (stride + 1), 1, within(panels / (4 * threads), 1, kShare)),
                    shares = ceil_div(panels, share);
      int64_t parts = 1;
      while (parts < groups && shares * parts % threads != 0 && shares * parts < 16 * threads) ++parts;
      return {group, share, ceil_div(groups, parts) * group};
    }
    // A task reads its blocks once for each panel and its panels once: least when both are as many bytes. In one pass the blocks stay in
    // cache for the next task, so tasks may be small and end evenly.
    const int64_t area = blocks * panels / ((pass_steps < steps ? 8 : 32) * threads);
    int64_t share = 1;
    while (share < kShare && (share + 1) * (share + 1) * kWidth <= area * kRows) ++share;
    const int64_t groups = ceil_div(blocks, within(area / share, smaller(4, blocks), most)), group = ceil_div(blocks, groups);
    return {group, share, group};
  }

  void run() {
    const int64_t blocks = ceil_div(args.m, kRows), panels = ceil_div(args.n, kWidth);
    const bool small = args.m * args.k * (args.n + 16) < (1 << 17);
    const bool makes = args.right.is_made();
    const int64_t stride = panel_stride(kThisLevel, args.right.panel, args.k, 2);
    const int64_t chunk = copies ? within(kCopyBytes / (left_bytes<Main>(args.k) + 1), 8, blocks) : blocks;
    Scratch memory(copies ? chunk * left_bytes<Main>(args.k) : 0);
    copy_memory = memory.as<char>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = smaller(first_block + chunk, blocks);
      if (copies || terms.packed_bytes() > 0) {
        for_tasks(small, end - first_block, [&](int64_t task) { prepare(first_block + task); });
      }
      if (args.y == nullptr) continue;
      const Cut cut = cut_of(end - first_block, panels, stride);
      const int64_t group = cut.group, share = cut.share, part = cut.part;
      const int64_t shares = ceil_div(panels, share);
      for_tasks(small, ceil_div(end - first_block, part) * shares, [&](int64_t task) {
        const int64_t panel_begin = task % shares * share, panel_end = smaller(panel_begin + share, panels);
        const int64_t part_begin = first_block + task / shares * part, part_end = smaller(part_begin + part, end);
        if (by_pass(stride)) return fill_retiled(part_begin, part_end, panel_begin, panel_end, group);
        Scratch made(makes ? (panel_end - panel_begin) * stride : 0);
        const char* right = makes ? made.as<char>() : static_cast<const char*>(args.right.panels) + panel_begin * stride;
        for (int64_t panel = panel_begin; makes && panel < panel_end; ++panel) {
          make_panel(args.right, args.k, args.n, panel, made.as<char>() + (panel - panel_begin) * stride);
        }
        for (int64_t begin = part_begin; begin < part_end; begin += group) {
          fill(begin, smaller(begin + group, part_end), panel_begin, panel_end, right, stride);
        }
      });
    }
  }
};

template <class Main, class Extra>
void run_product(const GemmArgs& args) {
  using Accumulator = typename Main::Accumulator;
  Scratch bias_memory(args.bias == nullptr ? 0 : args.n * static_cast<int64_t>(sizeof(Accumulator)));
  auto* bias = args.bias == nullptr ? nullptr : bias_memory.as<Accumulator>();
  if (bias != nullptr) {
    LORIKEET_FLOAT_SWITCH(
        args.bias_dtype, T,
        for (int64_t j = 0; j < args.n; ++j) { bias[j] = static_cast<Accumulator>(load(static_cast<const T*>(args.bias) + j)); });
  }
  if (has_few_rows(args)) return few_rows<Main, Extra>(args, bias);
  const BlockTerms terms(args, kRows, left_bytes<Extra>);
  Scratch packed(terms.packed_bytes());
  const int64_t steps = args.right.empty() ? 0 : steps_of<Main>(args.k);
  const int64_t passes = steps > kPassSteps ? ceil_div(steps, kPassSteps) : 1;
  const int64_t pass_steps = ceil_div(ceil_div(steps, passes), kVector) * kVector;  // whole squares of panels made on the fly
  const bool alike = args.x_dtype == dtype_of(typename Main::Element{}) && args.x_column_stride == 1 && args.k % Main::kDepth == 0;
  const bool aliased = args.m >= kRows && args.x_row_stride * size_of(args.x_dtype) % kAliasBytes == 0;
  Product<Main, Extra>{args, terms, bias, packed.as<char>(), steps, within(pass_steps, 1, kPassSteps), !alike || aliased}.run();
}

void gemm(const GemmArgs& args) {
  if (args.m == 0 || (args.y != nullptr && args.n == 0)) return;
  if (args.right.panel == Panel::int8 && !args.right.empty()) return gemm_int8(args);
  switch (args.arithmetic) {
    case Arithmetic::f64: return run_product<KindF64, KindF64>(args);
    case Arithmetic::f32:
      return args.right.panel == Panel::bf16 ? run_product<KindWiden, KindF32>(args) : run_product<KindF32, KindF32>(args);
    case Arithmetic::bf16_pairs:
#if defined(__AVX512BF16__)
      return run_product<KindPairs, KindPairs>(args);
#else
      return;
#endif
  }
}

LORIKEET_KERNEL(gemm_kernel, gemm)

}  // namespace lorikeet::LORIKEET_LEVEL
