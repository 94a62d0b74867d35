#include "ops/linear.h"

#include "ops/low-rank-product.h"

namespace lorikeet {

Tensor linear(const Tensor& x, const PackedWeightPtr& weight, const Tensor& bias) {
  return low_rank_product("linear", x, {{weight, Tensor()}, bias, {}, {}});
}

Tensor linear_dense(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return low_rank_product("linear", x, {{nullptr, weight}, bias, {}, {}});
}

}  // namespace lorikeet
