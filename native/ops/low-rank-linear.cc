#include "ops/low-rank-linear.h"

#include <numeric>

namespace lorikeet {

namespace {

/// The one segment in which every row uses all adapters.
std::vector<RowSegment> all_rows(const Tensor& x, const LowRankAdapters& adapters) {
  RowSegment all{0, 1, std::vector<int64_t>(adapters.count())};
  for (int i = 0; i + 1 < x.rank(); ++i) all.end *= x.size(i);
  std::iota(all.adapters.begin(), all.adapters.end(), 0);
  return {all};
}

LowRankLayer checked(const char* op, const Tensor& x, const LinearLayer& layer) {
  check_argument(layer.weight.packed || layer.weight.dense.defined(), op, ": needs a weight");
  return {layer.weight, layer.bias, layer.adapters, layer.segments ? *layer.segments : all_rows(x, layer.adapters)};
}

}  // namespace

Tensor low_rank_linear(const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters,
                       const std::optional<std::vector<RowSegment>>& segments) {
  return low_rank_product("lowRankLinear", x, checked("lowRankLinear", x, {weight, bias, adapters, segments}));
}

Tensors low_rank_linears(const Tensor& x, const std::vector<LinearLayer>& layers) {
  std::vector<LowRankLayer> list;
  for (const LinearLayer& layer : layers) list.push_back(checked("lowRankLinears", x, layer));
  return low_rank_products("lowRankLinears", x, list);
}

}  // namespace lorikeet
