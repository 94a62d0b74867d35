#include "ops/sgmv.h"

namespace lorikeet {

Tensor sgmv(const Tensor& x, const LowRankAdapters& adapters, const std::vector<RowSegment>& segments) {
  return low_rank_product("sgmv", x, {{nullptr, Tensor()}, Tensor(), adapters, segments});
}

}  // namespace lorikeet
