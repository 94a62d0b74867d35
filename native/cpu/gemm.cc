// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias, on packed panels.
// For each run of left blocks that fits kLeftBytes: (1) every block is packed and the z of its low-rank terms computed; (2) tasks of some
// blocks times some panels fill tiles (the whole contraction in registers, then the terms as further steps of the same accumulators) and
// write them out. Panels of a quantised W are made by the task that reads them, which then takes as many blocks as it can.

#include "cpu/level.h"

#include "cpu/gemm-int8.h"
#include "cpu/gemm-low-rank.h"
#include "cpu/gemm.h"
#include "cpu/quantized-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kLeftBytes = 16 << 20;    // packed left operand in flight
inline constexpr int64_t kBlockBytes = 512 << 10;  // packed left operand read in one go: half of a level-2 cache
inline constexpr int64_t kMadeBytes = 512 << 10;   // panels of one task that are made on the fly

template <class T, class Accumulator>
void write_tile(const Accumulator* tile, int64_t width, T* y, int64_t row_stride, int64_t rows, int64_t columns, const Accumulator* bias) {
  for (int64_t row = 0; row < rows; ++row) {
    const Accumulator* source = tile + row * width;
    T* target = y + row * row_stride;
    if (bias != nullptr) {
      for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j] + bias[j]));
    } else {
      for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j]));
    }
  }
}

/// Main is the kind of the base product, Extra that of the low-rank terms; both take the same left operand.
template <class Main, class Extra>
struct Product {
  using Left = typename Main::Left;
  using Accumulator = typename Main::Accumulator;
  static constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);

  const GemmArgs& args;
  const LowRankPlan& plan;
  const Accumulator* bias;
  Left* packed_z;
  Left* left = nullptr;
  int64_t first_block = 0;
  int64_t block_elements;

  int64_t rows_of(int64_t block) const {
    const int64_t rest = args.m - block * kRows;
    return rest < kRows ? rest : kRows;
  }
  const Left* left_of(int64_t block) const { return left + (block - first_block) * block_elements; }

  void prepare(int64_t block) const {
    Left* target = left + (block - first_block) * block_elements;
    const int64_t offset = block * kRows * args.x_row_stride;
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + offset;
      if (args.x_column_stride == 1) {
        pack_left_rows<Main>(target, x, args.x_row_stride, rows_of(block), args.k);
      } else {
        pack_left<Main>(target, x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
      }
    });
    for (int64_t i = plan.starts[block]; i < plan.starts[block + 1]; ++i) {
      shrink_block<Extra>(args, plan.terms[i], target, packed_z + plan.terms[i].packed);
    }
  }

  /// The tile of one block and one panel, whose right operand lies at `right`.
  void fill(int64_t block, int64_t panel, const char* right) const {
    alignas(64) Accumulator tile[kTileBytes / sizeof(Accumulator)];
    const int64_t rows = rows_of(block);
    const int64_t steps = args.right.empty() ? 0 : steps_of<Main>(args.k);
    micro_for<Main, 2>(rows)(steps, left_of(block), right, tile, false);
    for (int64_t i = plan.starts[block]; i < plan.starts[block + 1]; ++i) {
      expand_tile<Extra>(args, plan.terms[i], packed_z + plan.terms[i].packed, panel, tile);
    }
    const int64_t first = panel * kWidth;
    const int64_t columns = args.n - first < kWidth ? args.n - first : kWidth;
    const int64_t offset = block * kRows * args.y_row_stride + first;
    const Accumulator* panel_bias = bias == nullptr ? nullptr : bias + first;
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T,
                          write_tile(tile, kWidth, static_cast<T*>(args.y) + offset, args.y_row_stride, rows, columns, panel_bias));
  }

  void run() {
    const int64_t blocks = (args.m + kRows - 1) / kRows;
    const int64_t panels = (args.n + kWidth - 1) / kWidth;
    const bool small = args.m * args.k * (args.n + 16) < (1 << 17);
    const bool makes = args.right.is_quantized();
    const int64_t stride = panel_stride(kThisLevel, args.right.panel, args.k, 2);
    const int64_t block_bytes = block_elements * static_cast<int64_t>(sizeof(Left));
    const int64_t chunk = within(kLeftBytes / (block_bytes + 1), 8, blocks);
    Scratch memory(chunk * block_bytes);
    left = memory.as<Left>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = first_block + chunk < blocks ? first_block + chunk : blocks;
      for_tasks(small, end - first_block, [&](int64_t task) { prepare(first_block + task); });
      if (args.y == nullptr) continue;
      const int64_t group = within(kBlockBytes / (block_bytes + 1), 8, end - first_block);
      const int64_t groups = (end - first_block + group - 1) / group;
      // Panels of a task: enough tasks for every thread, enough work in each. The cut does not change a bit of the result.
      int64_t share = within(panels * groups / (8 * thread_count()), 1, 16), groups_of_task = 1;
      if (makes) {
        share = within(kMadeBytes / (stride + 1), 1, within(panels / (4 * thread_count()), 1, 16));
        groups_of_task = within(groups * ((panels + share - 1) / share) / thread_count(), 1, groups);
      }
      const int64_t shares = (panels + share - 1) / share;
      const int64_t parts = (groups + groups_of_task - 1) / groups_of_task;
      for_tasks(small, parts * shares, [&](int64_t task) {
        const int64_t panel_begin = task % shares * share;
        const int64_t panel_end = smaller(panel_begin + share, panels);
        const int64_t part_begin = first_block + task / shares * groups_of_task * group;
        const int64_t part_end = smaller(part_begin + groups_of_task * group, end);
        Scratch made(makes ? (panel_end - panel_begin) * stride : 0);
        const char* right = makes ? made.as<char>() : static_cast<const char*>(args.right.panels) + panel_begin * stride;
        for (int64_t panel = panel_begin; makes && panel < panel_end; ++panel) {
          quantized_panel(args.right.quantized, args.right.turned, args.right.panel, panel,
                          made.as<char>() + (panel - panel_begin) * stride);
        }
        for (int64_t begin = part_begin; begin < part_end; begin += group) {
          const int64_t block_end = smaller(begin + group, part_end);
          for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
            for (int64_t block = begin; block < block_end; ++block) fill(block, panel, right + (panel - panel_begin) * stride);
          }
        }
      });
    }
  }

  static int64_t within(int64_t value, int64_t low, int64_t high) {
    const int64_t raised = value < low ? low : value;
    return raised > high ? high : raised;
  }
};

template <class Main, class Extra>
void run_product(const GemmArgs& args) {
  using Accumulator = typename Main::Accumulator;
  const int64_t blocks = (args.m + kRows - 1) / kRows;
  Scratch bias_memory(args.bias == nullptr ? 0 : args.n * static_cast<int64_t>(sizeof(Accumulator)));
  auto* bias = args.bias == nullptr ? nullptr : bias_memory.as<Accumulator>();
  if (bias != nullptr) {
    LORIKEET_FLOAT_SWITCH(
        args.bias_dtype, T,
        for (int64_t j = 0; j < args.n; ++j) { bias[j] = static_cast<Accumulator>(load(static_cast<const T*>(args.bias) + j)); });
  }
  Scratch starts((blocks + 1) * static_cast<int64_t>(sizeof(int64_t)));
  Scratch terms(count_block_terms(args) * static_cast<int64_t>(sizeof(BlockTerm)));
  LowRankPlan plan{starts.as<int64_t>(), terms.as<BlockTerm>(), 0};
  make_plan<Extra>(args, blocks, plan);
  Scratch packed(plan.packed_elements * static_cast<int64_t>(sizeof(typename Main::Left)));
  Product<Main, Extra>{args, plan, bias, packed.as<typename Main::Left>(), nullptr, 0, steps_of<Main>(args.k) * Main::kLeftRows * kRows}
      .run();
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
