#pragma once

// The packed matrix product under every linear layer: y[M, N] = x[M, K] · W[N, K]ᵀ, and its parts.
//
// Right operands are packed into panels: two vectors (or one) of outputs side by side, all of the contraction below each other.
//   f32, f64  [outputs / width][contraction][width]
//   bf16      [outputs / width][contraction / 2][width][2]    (pairs along the contraction, the last one filled with zero)
//   int8      ops/int8-panels.h
// Left operands are read where they lie, or copied in blocks of kGemmRows rows. Every output element is one chain of multiply-adds over k
// in rising order, in fp32 (f64 for f64 panels) or in bf16 pairs with an fp32 accumulator. So its bits depend on its own row and column, K
// and the level alone, never on M, the place in a block or the number of threads.

#include <cstdint>

#include "core/dtype.h"
#include "core/kernel.h"
#include "ops/quantized-matrix.h"

namespace lorikeet {

/// Rows of a left block, and floats in a vector, by level.
#if defined(__aarch64__)
inline constexpr int kGemmRows[kLevels] = {4, 12};
inline constexpr int kGemmVector[kLevels] = {4, 4};
#else
inline constexpr int kGemmRows[kLevels] = {4, 6, 12, 12, 12};
inline constexpr int kGemmVector[kLevels] = {4, 8, 16, 16, 16};
#endif

/// What the panels of a right operand hold.
enum class Panel : uint8_t { f64, f32, bf16, int8 };

/// What products are computed in: f64, f32, or pairs of bf16 summed in f32. With int8 panels: what low-rank terms are computed in.
enum class Arithmetic : uint8_t { f64, f32, bf16_pairs };

/// The panel that holds a storage type exactly.
constexpr Panel panel_for(DType dtype) { return dtype == DType::f64 ? Panel::f64 : dtype == DType::bf16 ? Panel::bf16 : Panel::f32; }

/// bf16 pairs only where both operands are bf16 (or the right one int8) and the level has the instruction: nothing is rounded that was not
/// stored so.
constexpr Arithmetic arithmetic_for(Level level, DType x, Panel panel) {
  if (panel == Panel::f64) return Arithmetic::f64;
  const bool pairs = panel == Panel::bf16 || panel == Panel::int8;
  return has_pair_products(level) && x == DType::bf16 && pairs ? Arithmetic::bf16_pairs : Arithmetic::f32;
}

/// The panel of operands made on the fly (low-rank factors) for an arithmetic.
constexpr Panel panel_for(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::f64 ? Panel::f64 : arithmetic == Arithmetic::f32 ? Panel::f32 : Panel::bf16;
}

/// Outputs in one panel of `vectors` vectors.
constexpr int64_t panel_width(Level level, Panel panel, int vectors) {
  return static_cast<int64_t>(vectors) * kGemmVector[static_cast<int>(level)] / (panel == Panel::f64 ? 2 : 1);
}

/// Bytes of one panel: 64 for every vector and step of the widest level, a multiple of the vector size.
constexpr int64_t panel_stride(Level level, Panel panel, int64_t contraction, int vectors) {
  int64_t row = static_cast<int64_t>(vectors) * kGemmVector[static_cast<int>(level)] * 4;
  return row * (panel == Panel::bf16 ? (contraction + 1) / 2 : contraction);
}

constexpr int64_t panel_bytes(Level level, Panel panel, int64_t outputs, int64_t contraction, int vectors) {
  int64_t width = panel_width(level, panel, vectors);
  return (outputs + width - 1) / width * panel_stride(level, panel, contraction, vectors);
}

/// Packs W(n, k) = source[n * output_stride + k * contraction_stride] * scale into panels (two vectors wide, or one).
struct GemmPackArgs {
  const void* source;
  DType dtype;
  int64_t outputs, contraction;
  int64_t output_stride, contraction_stride;
  double scale;
  Panel panel;
  int vectors;
  void* panels;
};
inline constinit Kernel<GemmPackArgs> gemm_pack_kernel{"gemm_pack"};

/// Writes panels (two vectors wide) back as row-major [outputs, contraction] of `dtype`.
struct GemmUnpackArgs {
  const void* panels;
  Panel panel;
  int64_t outputs, contraction;
  void* target;
  DType dtype;
};
inline constinit Kernel<GemmUnpackArgs> gemm_unpack_kernel{"gemm_unpack"};

/// Row i of the target [count, contraction] becomes row `rows[i]` of what panels (two vectors wide) hold.
struct GemmUnpackRowsArgs {
  const void* panels;
  Panel panel;
  const int64_t* rows;
  int64_t count, contraction;
  void* target;
  DType dtype;
};
inline constinit Kernel<GemmUnpackRowsArgs> gemm_unpack_rows_kernel{"gemm_unpack_rows"};

/// Inverted dropout by counters: element i is kept when uniform(seed, stream, i) >= p. p = 0: none.
struct DropoutMask {
  double p = 0;
  uint64_t seed = 0;
  uint64_t stream = 0;
};

/// One adapter in a product: z = x · shrinkᵀ (masked x when mask_input) * shrink_scale, y += z · expandᵀ (masked when mask_output) + bias.
/// Terms of products of one x that have the same rows and scale, and no mask, may share panels of `shrink`, the columns of one behind those
/// of the other.
struct LowRankTerm {
  int64_t rank;
  const void* shrink;     // panels one vector wide, contraction = K; the outputs of this term are `rank` of them
  int64_t shrink_column;  // the first of these
  const void* expand;     // panels two vectors wide, outputs = N, contraction = rank; null when y is null
  void* z;                // [rows of the adapter, rank] in f32 (f64 for f64), rows z_row_stride apart: written
  int64_t z_row_stride;
  double shrink_scale;
  const void* bias;  // [N] in f32 (f64 for f64), or null
  DropoutMask mask;
  bool mask_input, mask_output;
  double output_scale;  // of the masked output product
};

/// Rows [row_begin, row_end) of x take part in term `term`; they are rows z_row... of its z. Element indices of its mask count from z_row.
struct LowRankRows {
  int64_t row_begin, row_end;
  int64_t z_row;
  int32_t term;
};

/// A matrix [rows, columns] as it lies in memory, row-major without gaps.
struct StoredMatrix {
  const void* values = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0;
};

/// W of a product: panels, or a quantised or a stored matrix whose panels are made on the fly (of its transpose when `turned`), or none.
/// `panel` is what panels hold in all cases. With `retile` the panels are those of Wᵀ, and those of W are made from them on the fly. int8
/// panels come with the scales of the weight's rows: of outputs, or of the contraction when `turned`. A quantised matrix of a GGUF format
/// with `panel` int8 is multiplied by its codes, with rows of x rounded to 8 bits in groups of kQuantizedGroup.
struct RightOperand {
  Panel panel;
  const void* panels = nullptr;
  QuantizedMatrix quantized{};
  bool turned = false;
  bool retile = false;
  const float* scales = nullptr;
  StoredMatrix stored{};
  bool is_quantized() const { return quantized.codes != nullptr; }
  bool is_stored() const { return stored.values != nullptr; }
  bool is_made() const { return is_quantized() || is_stored() || retile; }
  bool empty() const { return panels == nullptr && !is_quantized() && !is_stored(); }
};

/// y = x · Wᵀ + Σ low-rank terms + bias. Without a right operand the base product is absent; without `y` only the z of the terms are
/// computed. `rows` of one row come in the order in which the terms are added.
struct GemmArgs {
  const void* x;
  DType x_dtype;
  int64_t x_row_stride, x_column_stride;
  void* y;
  DType y_dtype;
  int64_t y_row_stride;
  int64_t m, k, n;
  Arithmetic arithmetic;
  RightOperand right;
  const void* bias;  // [N] of bias_dtype, or null
  DType bias_dtype;
  const LowRankTerm* terms;
  int64_t term_count;
  const LowRankRows* rows;
  int64_t row_count;
};
inline constinit Kernel<GemmArgs> gemm_kernel{"gemm"};

/// Products whose tasks run as one job: of one x, each with a y of its own; or `summed`, each of its own x, into the y of the first, which
/// has no bias: in their order, each rounded to y's dtype as it would be alone, and so every sum. All have the same m, arithmetic and kind of
/// panels; those summed have the same n, and no int8 panels. Either all have a y or none.
inline constexpr int64_t kMostJoint = 8;
struct GemmJointArgs {
  const GemmArgs* products;
  int64_t count;  // 1 to kMostJoint
  bool summed;
};
inline constinit Kernel<GemmJointArgs> gemm_joint_kernel{"gemmJoint"};

/// The level whose layouts are in force: the active one, or the highest below it that this build has.
Level gemm_level();

/// Rows x_row... of x meet rows p_row... of p, which follow those of the range before.
struct RowRange {
  int64_t x_row, p_row, rows;
};

/// out[r, c] = scale * Σ_t p[t, r] · x[t, c] over the rows of `ranges` in order, one chain for each element; out is [rank, columns], or
/// [columns, rank] when `transposed`. p and out are f32 (f64 for f64 x). bf16 x is multiplied in pairs of rows, with p rounded to bf16, at
/// levels that have the instruction. The mask applies to x, its indices count rows by p_row.
struct GemmRowsArgs {
  const void* x;
  DType x_dtype;
  int64_t x_row_stride;
  int64_t columns;
  const void* p;
  int64_t p_row_stride;
  int64_t rank;
  const RowRange* ranges;
  int64_t range_count;
  double scale;
  DropoutMask mask;
  void* out;
  bool transposed;
};
inline constinit Kernel<GemmRowsArgs> gemm_rows_kernel{"gemm_rows"};

}  // namespace lorikeet
