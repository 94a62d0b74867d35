#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/level.h"
#include "core/tensor.h"
#include "ops/gemm.h"
#include "ops/quantized-weight.h"

namespace lorikeet {

/// What a packed weight keeps: `dual` = panels for y = x Wᵀ, and panels for dx = dy W made when the first backward asks for them; `retile`
/// = those for y alone, from which every dx makes its own; `blocks` = a quantised matrix, whose panels for both are made by every product
/// anew; `codes` = the same, but products for y multiply the codes with rows of x in 8-bit integers; `int8` = dual panels of the codes of
/// int8, whose products multiply 8-bit integers; `native` = the rows where they lie, in memory or in a mapped file, with panels made like
/// those of blocks.
enum class WeightLayout : uint8_t { dual, retile, blocks, codes, int8, native };

constexpr const char* name_of(WeightLayout layout) {
  constexpr const char* names[] = {"dual", "retile", "blocks", "codes", "int8", "native"};
  return names[static_cast<int>(layout)];
}

/// The right operand of a product as the JavaScript thread knows it: panels, or a quantised weight or rows (their transpose when `turned`),
/// or nothing. `scales` of the rows of the weight go with int8 panels.
struct PackedOperand {
  Tensor panels;
  QuantizedWeightPtr quantized;
  bool turned = false;
  /// The panels are those of the transpose.
  bool retile = false;
  Tensor scales{};
  Tensor rows{};
  /// The codes of `quantized` are multiplied, not its values.
  bool codes = false;

  /// Adds the tensors that must be there before the product runs.
  void append_to(std::vector<Tensor>& inputs) const;
  /// The pointers, for panels that hold `panel`; inside stream work.
  RightOperand pointers(Panel panel) const;
};

/// A frozen weight W [N, K] in the layout that its kernels read. It never takes part in autograd. Level and panel are those in force when
/// it was packed; products with it run at that level whatever is in force later. Methods belong to the JavaScript thread.
class PackedWeight {
 public:
  /// Packs a matrix of any strides; f64, f32 and bf16 are kept as they are, f16 is widened to f32. Throws for other dtypes and ranks. In
  /// `layout` native nothing is packed: contiguous rows share the memory of the tensor, which must not be changed in place from then on.
  PackedWeight(const Tensor& weight, WeightLayout layout);
  /// Keeps a quantised weight, whose values products take in the panel of `dtype` (f32, bf16 or f16): those of bf16 are rounded to it. In
  /// `layout` codes (of a GGUF format) products for y take its codes; in `layout` int8 (of an int8 weight) its codes are packed instead.
  PackedWeight(QuantizedWeightPtr weight, DType dtype, WeightLayout layout = WeightLayout::blocks);

  const Shape& shape() const { return shape_; }
  int64_t outputs() const { return shape_[0]; }
  int64_t inputs() const { return shape_[1]; }
  DType dtype() const { return dtype_; }
  Level level() const { return level_; }
  Panel panel() const { return panel_; }
  WeightLayout layout() const { return layout_; }
  /// The blocks of a quantised weight that stays in them, else null.
  const QuantizedWeightPtr& quantized() const { return quantized_; }
  /// Bytes of memory of the panels made so far, of the blocks, or of rows that lie in memory.
  int64_t bytes() const;
  /// Bytes of rows that lie in a mapped file.
  int64_t mapped_bytes() const;

  /// Panels over outputs, contraction over inputs.
  PackedOperand forward() const;
  /// Panels over inputs, contraction over outputs.
  PackedOperand backward() const;
  /// The weight as it was given, row-major; of a quantised one its values in `dtype`.
  Tensor unpack() const;
  /// Rows named by `ids` (i64 or i32, any shape), [.., K]; work that fails for an id outside the weight.
  Tensor rows_at(const Tensor& ids) const;

 private:
  /// The rows of layout native. Throws when they were changed since it was packed.
  const Tensor& rows() const;

  Shape shape_;
  DType dtype_;
  Level level_;
  Panel panel_;
  WeightLayout layout_;
  QuantizedWeightPtr quantized_;
  Tensor scales_;        // int8: largest absolute value of every row
  Tensor rows_;          // native
  int64_t version_ = 0;  // of rows_ when it was packed
  Tensor forward_;
  mutable Tensor backward_;
};

using PackedWeightPtr = std::shared_ptr<PackedWeight>;

/// A frozen weight [N, K] for y = x Wᵀ and dx = dy W, in the layout of that name: `retile`, `dual` or `native`.
PackedWeightPtr pack_weight(const Tensor& weight, const std::string& layout);
/// The same for products of 8-bit integers: GGUF blocks in layout codes, else layout int8, of int8 blocks the codes as they are, of other
/// blocks and panels their values quantised, row by row.
PackedWeightPtr pack_int8(const PackedWeightPtr& weight);
PackedWeightPtr pack_int8(const Tensor& weight);
Tensor unpack_weight(const PackedWeightPtr& weight);
/// Rows [first, first + count) of a quantised weight as [count, K] in its dtype, and those named by `ids` of any.
Tensor unpack_rows(const PackedWeightPtr& weight, int64_t first, int64_t count);
Tensor embedding_rows(const PackedWeightPtr& weight, const Tensor& ids);

/// Queues the packing of W(n, k) = weight[n, k] (a matrix of any strides) or, `turned`, of its transpose, two vectors wide.
Tensor pack_matrix(const Tensor& weight, bool turned, Level level, Panel panel);

}  // namespace lorikeet
