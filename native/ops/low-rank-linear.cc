#include "ops/low-rank-linear.h"

#include <numeric>

namespace lorikeet {

Tensor low_rank_linear(const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters,
                       const std::optional<std::vector<RowSegment>>& segments) {
  check_argument(weight.packed || weight.dense.defined(), "lowRankLinear: needs a weight");
  if (segments) return low_rank_product("lowRankLinear", x, weight, bias, adapters, *segments);
  RowSegment all{0, 1, std::vector<int64_t>(adapters.count())};
  for (int i = 0; i + 1 < x.rank(); ++i) all.end *= x.size(i);
  std::iota(all.adapters.begin(), all.adapters.end(), 0);
  return low_rank_product("lowRankLinear", x, weight, bias, adapters, {all});
}

}  // namespace lorikeet
