#pragma once

#include <memory>

#include "core/level.h"
#include "core/tensor.h"
#include "ops/gemm.h"

namespace lorikeet {

/// What a packed weight keeps: `dual` = panels for y = x Wᵀ, and panels for dx = dy W made when the first backward asks for them.
enum class WeightLayout : uint8_t { dual };

constexpr const char* name_of(WeightLayout) { return "dual"; }

/// A frozen weight W [N, K] in the layout that its kernels read. It never takes part in autograd. Level and panel are those in force when
/// it was packed; products with it run at that level whatever is in force later. Methods belong to the JavaScript thread.
class PackedWeight {
 public:
  /// Packs a matrix of any strides; f64, f32 and bf16 are kept as they are, f16 is widened to f32. Throws for other dtypes and ranks.
  explicit PackedWeight(const Tensor& weight);

  const Shape& shape() const { return shape_; }
  int64_t outputs() const { return shape_[0]; }
  int64_t inputs() const { return shape_[1]; }
  DType dtype() const { return dtype_; }
  Level level() const { return level_; }
  Panel panel() const { return panel_; }
  WeightLayout layout() const { return WeightLayout::dual; }
  /// Bytes of the panels made so far.
  int64_t bytes() const;

  /// Panels over outputs, contraction over inputs.
  const Tensor& forward() const { return forward_; }
  /// Panels over inputs, contraction over outputs.
  const Tensor& backward() const;
  /// The weight as it was given, row-major.
  Tensor unpack() const;

 private:
  Shape shape_;
  DType dtype_;
  Level level_;
  Panel panel_;
  Tensor forward_;
  mutable Tensor backward_;
};

using PackedWeightPtr = std::shared_ptr<PackedWeight>;

/// Packs a frozen weight [N, K] once for y = x Wᵀ and dx = dy W.
PackedWeightPtr pack_weight(const Tensor& weight);
Tensor unpack_weight(const PackedWeightPtr& weight);

/// Queues the packing of W(n, k) = weight[n, k] (a matrix of any strides) or, `turned`, of its transpose, two vectors wide.
Tensor pack_matrix(const Tensor& weight, bool turned, Level level, Panel panel);

}  // namespace lorikeet
