// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias with W in int8 panels. For each run of left blocks that fits kCodeBytes: (1) rows
// of x are quantised, and the z of low-rank terms computed from x itself; (2) tasks of some blocks times some panels fill tiles (integer
// products scaled into f32, then the terms as further steps of the same tile) and write them out.

#include "cpu/level.h"

#include "cpu/gemm-int8.h"
#include "cpu/gemm-low-rank.h"
#include "cpu/int8-micro.h"
#include "cpu/integers.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kCodeBytes = 16 << 20;    // quantised rows in flight
inline constexpr int64_t kGroupBytes = 256 << 10;  // of them, read in one go: they stay in a level-2 cache
inline constexpr float kInverse127 = 1.0f / 127.0f;

template <class T>
LORIKEET_INLINE void write_row(const float* source, const float* bias, int64_t columns, T* target) {
  if (bias != nullptr) {
    for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j] + bias[j]));
  } else {
    for (int64_t j = 0; j < columns; ++j) store(target + j, static_cast<compute_t<T>>(source[j]));
  }
}

/// The same of a whole row of a tile.
template <class T>
LORIKEET_INLINE void write_whole_row(const float* source, const float* bias, T* target) {
#if defined(__AVX512BF16__)
  if constexpr (__is_same(T, BFloat16)) {
    auto low = *reinterpret_cast<const FloatVector*>(source), high = *reinterpret_cast<const FloatVector*>(source + kVector);
    if (bias != nullptr) {
      low += *reinterpret_cast<const FloatVector*>(bias);
      high += *reinterpret_cast<const FloatVector*>(bias + kVector);
    }
    return KindPairs::store(low, high, reinterpret_cast<char*>(target));
  }
#endif
  write_row(source, bias, 2 * kVector, target);
}

/// Extra is the kind of the low-rank terms.
template <class Extra>
struct Int8Product {
  static constexpr int64_t kWidth = 2 * kVector;

  const GemmArgs& args;
  const BlockTerms& terms;
  const float* bias;           // [n], or null
  const float* factors;        // of the columns of x, [k], or null
  const float* output_scales;  // [n rounded up to whole panels], or null
  char* packed_z;
  int64_t row_bytes, groups;
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  int64_t first_block = 0;

  int64_t rows_of(int64_t block) const { return within(args.m - block * kRows, 0, kRows); }

  Int8Rows left_of(int64_t block) const {
    const int64_t row = (block - first_block) * kRows;
    return {codes + row * row_bytes, scales + row * groups, row_bytes, groups};
  }

  void quantize(int64_t block) const {
    const int64_t row = (block - first_block) * kRows;
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + block * kRows * args.x_row_stride;
      for (int64_t i = 0; i < rows_of(block); ++i) {
        quantize_row(x + i * args.x_row_stride, args.x_column_stride, factors, args.k, codes + (row + i) * row_bytes,
                     scales + (row + i) * groups);
      }
    });
  }

  /// The rows of a block as the terms read them: where they lie, if they are stored so, else copied to `memory`.
  LeftView floats_of(int64_t block, void* memory) const {
    LeftView left{};
    LORIKEET_FLOAT_SWITCH(args.x_dtype, T, {
      const T* x = static_cast<const T*>(args.x) + block * kRows * args.x_row_stride;
      const int64_t row_bytes = args.x_row_stride * static_cast<int64_t>(sizeof(T));
      const bool stored_so = __is_same(T, typename Extra::Element) && args.k % Extra::kDepth == 0;
      if (args.x_column_stride != 1) {
        left = copy_left<Extra>(memory, x, args.x_row_stride, args.x_column_stride, rows_of(block), args.k);
      } else if (stored_so) {
        left = {reinterpret_cast<const char*>(x), row_bytes, sizeof(typename Extra::Word)};
      } else {
        left = copy_left_rows<Extra>(memory, x, args.x_row_stride, rows_of(block), args.k);
      }
    });
    return left;
  }

  void shrink(int64_t block) const {
    if (terms.begin(block) == terms.end(block)) return;
    Scratch memory(left_bytes<Extra>(args.k));
    const LeftView left = floats_of(block, memory.as<void>());
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      shrink_block<Extra>(args, *part, left, packed_z + part->packed);
    }
  }

  void fill(int64_t block, int64_t panel) const {
    alignas(64) float tile[kTileBytes / sizeof(float)];
    const int64_t rows = rows_of(block), first = panel * kWidth, columns = within(args.n - first, 0, kWidth);
    const int64_t y_row_bytes = args.y_row_stride * size_of(args.y_dtype);
    const char* y_rows = static_cast<const char*>(args.y) + block * kRows * y_row_bytes + first * size_of(args.y_dtype);
    for (int64_t row = 0; row < rows; ++row) __builtin_prefetch(y_rows + row * y_row_bytes, 1);
    const char* right = static_cast<const char*>(args.right.panels) + panel * int8_panel_stride(kThisLevel, args.k);
    int8_micro_for(rows)(args.k, left_of(block), right, output_scales == nullptr ? nullptr : output_scales + first, tile);
    for (const BlockTerm* part = terms.begin(block); part != terms.end(block); ++part) {
      expand_tile<Extra>(args, *part, packed_z + part->packed, panel, tile);
    }
    LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
      T* y = static_cast<T*>(args.y) + block * kRows * args.y_row_stride + first;
      const float* panel_bias = bias == nullptr ? nullptr : bias + first;
      for (int64_t row = 0; row < rows; ++row) {
        if (columns == kWidth) {
          write_whole_row(tile + row * kWidth, panel_bias, y + row * args.y_row_stride);
        } else {
          write_row(tile + row * kWidth, panel_bias, columns, y + row * args.y_row_stride);
        }
      }
    });
  }

  void run() {
    const int64_t blocks = (args.m + kRows - 1) / kRows, panels = (args.n + kWidth - 1) / kWidth;
    const bool small = args.m * args.k * (args.n + 16) < (1 << 18);
    const int64_t block_bytes = row_bytes * kRows;
    const int64_t chunk = within(kCodeBytes / block_bytes, 8, blocks);
    Scratch code_memory(chunk * block_bytes), scale_memory(chunk * kRows * groups * static_cast<int64_t>(sizeof(float)));
    codes = code_memory.as<uint8_t>();
    scales = scale_memory.as<float>();
    for (first_block = 0; first_block < blocks; first_block += chunk) {
      const int64_t end = first_block + chunk < blocks ? first_block + chunk : blocks;
      for_tasks(small, end - first_block, [&](int64_t task) {
        quantize(first_block + task);
        shrink(first_block + task);
      });
      const int64_t count = end - first_block, parts = ceil_div(count, within(kGroupBytes / block_bytes, 4, count));
      const int64_t group = ceil_div(count, parts);
      // Panels of a task: so many tasks that no thread waits long for the last one. The cut does not change a bit of the result.
      const int64_t shares = ceil_div(panels, within(panels * parts / (32 * thread_count()), 1, 16)), share = ceil_div(panels, shares);
      for_tasks(small, parts * shares, [&](int64_t task) {
        const int64_t panel_begin = task % shares * share, panel_end = within(panel_begin + share, 0, panels);
        const int64_t begin = first_block + task / shares * group, block_end = within(begin + group, 0, end);
        for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
          for (int64_t block = begin; block < block_end; ++block) fill(block, panel);
        }
      });
    }
  }
};

/// The bias in f32.
void widen_bias(const GemmArgs& args, float* out) {
  LORIKEET_FLOAT_SWITCH(
      args.bias_dtype, T,
      for (int64_t j = 0; j < args.n; ++j) { out[j] = static_cast<float>(load(static_cast<const T*>(args.bias) + j)); });
}

template <class Extra>
void run_int8(const GemmArgs& args) {
  constexpr int64_t kFloat = sizeof(float), kWidth = 2 * kVector;
  const int64_t scaled = args.right.turned ? args.k : args.n;
  Scratch bias(args.bias == nullptr ? 0 : args.n * kFloat);
  if (args.bias != nullptr) widen_bias(args, bias.as<float>());
  const int64_t padded = (scaled + kWidth - 1) / kWidth * kWidth;
  Scratch weight_scales(padded * kFloat);
  for (int64_t i = 0; i < padded; ++i) weight_scales.as<float>()[i] = i < scaled ? args.right.scales[i] * kInverse127 : 0;
  const BlockTerms terms(args, kRows, left_bytes<Extra>);
  Scratch packed(terms.packed_bytes());
  // Rows a cache line apart beside their length: twelve rows of a power of two would share one set of the first cache.
  const int64_t row_bytes = (args.k + 63) / 64 * 64 + 64;
  Int8Product<Extra>{args,
                     terms,
                     args.bias == nullptr ? nullptr : bias.as<float>(),
                     args.right.turned ? weight_scales.as<float>() : nullptr,
                     args.right.turned ? nullptr : weight_scales.as<float>(),
                     packed.as<char>(),
                     row_bytes,
                     int8_groups(args.k)}
      .run();
}

void gemm_int8(const GemmArgs& args) {
#if defined(__AVX512BF16__)
  if (args.arithmetic == Arithmetic::bf16_pairs) return run_int8<KindPairs>(args);
#endif
  run_int8<KindF32>(args);
}

}  // namespace lorikeet::LORIKEET_LEVEL
