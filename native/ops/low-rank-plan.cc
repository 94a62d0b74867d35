#include "ops/low-rank-plan.h"

#include <algorithm>

namespace lorikeet {
namespace {

void check_base(LowRankProductPlan& plan, const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters) {
  const char* op = plan.op;
  check_shape(x.rank() >= 1, op, ": x needs a last dimension of features; got a scalar");
  check_argument(is_float(x.dtype()), op, ": x must be a floating tensor; got ", name_of(x.dtype()));
  check(x.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
  plan.dtype = x.dtype();
  plan.wide = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  plan.k = x.size(-1);
  plan.m = plan.k == 0 ? 1 : x.numel() / plan.k;
  for (int i = 0; plan.k == 0 && i + 1 < x.rank(); ++i) plan.m *= x.size(i);

  DType weight_dtype = x.dtype();
  if (weight.packed || weight.dense.defined()) {
    const Shape& shape = weight.packed ? weight.packed->shape() : weight.dense.shape();
    weight_dtype = weight.packed ? weight.packed->dtype() : weight.dense.dtype();
    check_shape(shape.rank() == 2, op, ": a weight has two dimensions [outputs, inputs]; got ", to_string(shape));
    check_shape(shape[1] == plan.k, op, ": x and weight do not fit; got x ", to_string(x.shape()), " and weight ", to_string(shape),
                ", expected x [.., ", shape[1], "]");
    check_argument(is_float(weight_dtype) && (weight_dtype == DType::f64) == (x.dtype() == DType::f64), op, ": dtypes do not fit; got x ",
                   name_of(x.dtype()), " and weight ", name_of(weight_dtype), ", expected both or neither in f64");
    plan.n = shape[0];
  } else {
    check_argument(adapters.count() > 0, op, ": needs at least one adapter");
    check_shape(adapters.b[0].rank() == 2, op, ": B of adapter 0 has two dimensions [outputs, rank]; got ",
                to_string(adapters.b[0].shape()));
    plan.n = adapters.b[0].size(0);
  }
  plan.level = weight.packed ? weight.packed->level() : gemm_level();
  plan.panel = weight.packed ? weight.packed->panel() : panel_for(weight_dtype);
  plan.arithmetic = arithmetic_for(plan.level, plan.dtype, plan.panel);
  if (bias.defined()) {
    check_shape(bias.shape() == Shape{plan.n}, op, ": bias does not fit; got ", to_string(bias.shape()), ", expected [", plan.n, "]");
    check_argument(is_float(bias.dtype()), op, ": bias must be a floating tensor; got ", name_of(bias.dtype()));
  }
}

void check_adapters(LowRankProductPlan& plan, const LowRankAdapters& adapters) {
  const char* op = plan.op;
  const size_t count = adapters.count();
  check_argument(adapters.b.size() == count && adapters.scales.size() == count && adapters.biases.size() == count &&
                     adapters.dropouts.size() == count && adapters.seeds.size() == count && adapters.streams.size() == count,
                 op, ": lists of adapters have different lengths");
  for (size_t i = 0; i < count; ++i) {
    const Tensor &a = adapters.a[i], &b = adapters.b[i], &bias = adapters.biases[i];
    check_shape(a.rank() == 2 && a.size(1) == plan.k, op, ": A of adapter ", i, " does not fit; got ", to_string(a.shape()),
                ", expected [rank, ", plan.k, "]");
    check_shape(b.rank() == 2 && b.size(0) == plan.n && b.size(1) == a.size(0), op, ": B of adapter ", i, " does not fit; got ",
                to_string(b.shape()), ", expected [", plan.n, ", ", a.size(0), "]");
    check_shape(a.size(0) > 0, op, ": rank of adapter ", i, " must be positive; got 0");
    check_argument(is_float(a.dtype()) && is_float(b.dtype()), op, ": factors of adapter ", i, " must be floating; got A ",
                   name_of(a.dtype()), " and B ", name_of(b.dtype()));
    check_shape(!bias.defined() || bias.shape() == Shape{plan.n}, op, ": bias of adapter ", i, " does not fit; expected [", plan.n, "]");
    const double p = adapters.dropouts[i], scale = adapters.scales[i];
    check_argument(p >= 0 && p < 1, op, ": dropout of adapter ", i, " must be in [0, 1); got ", p);
    check_argument(scale - scale == 0, op, ": scale of adapter ", i, " must be finite; got ", scale);
    plan.adapters.push_back({a.size(0), scale, {p, adapters.seeds[i], adapters.streams[i]}, 0, {}});
  }
}

void add_segments(LowRankProductPlan& plan, const std::vector<RowSegment>& segments) {
  const char* op = plan.op;
  const auto count = static_cast<int64_t>(plan.adapters.size());
  int64_t previous = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    const RowSegment& segment = segments[s];
    check_argument(segment.begin >= previous && segment.end >= segment.begin && segment.end <= plan.m, op, ": segment ", s,
                   " must follow the one before and lie in the rows; got [", segment.begin, ", ", segment.end, "), expected within [",
                   previous, ", ", plan.m, ")");
    previous = segment.end;
    for (size_t i = 0; i < segment.adapters.size(); ++i) {
      const int64_t index = segment.adapters[i];
      check_argument(index >= 0 && index < count, op, ": segment ", s, " names an unknown adapter; got ", index, ", expected less than ",
                     count);
      check_argument(std::find(segment.adapters.begin(), segment.adapters.begin() + static_cast<int64_t>(i), index) ==
                         segment.adapters.begin() + static_cast<int64_t>(i),
                     op, ": segment ", s, " names adapter ", index, " twice");
      const int64_t rows = segment.end - segment.begin;
      if (rows == 0) continue;
      auto& adapter = plan.adapters[static_cast<size_t>(index)];
      plan.rows.push_back({segment.begin, segment.end, adapter.rows, static_cast<int32_t>(index)});
      adapter.ranges.push_back({segment.begin, adapter.rows, rows});
      adapter.rows += rows;
    }
  }
}

}  // namespace

LowRankPlanPtr plan_low_rank_product(const char* op, const Tensor& x, const LowRankLayer& layer) {
  auto plan = std::make_shared<LowRankProductPlan>();
  plan->op = op;
  check_base(*plan, x, layer.weight, layer.bias, layer.adapters);
  check_adapters(*plan, layer.adapters);
  add_segments(*plan, layer.segments);
  return plan;
}

}  // namespace lorikeet
