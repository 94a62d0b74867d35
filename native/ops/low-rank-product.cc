#include "ops/low-rank-product.h"

#include <algorithm>

#include "core/stream.h"
#include "ops/copy.h"
#include "ops/low-rank-run.h"
#include "ops/matmul.h"
#include "ops/shape.h"

namespace lorikeet {
namespace {

using Plan = LowRankProductPlan;

Tensor detached(const Tensor& x) { return x.defined() ? x.detach() : x; }

/// scale * Σ p[t, r] x[t, c] over the ranges, as [rank, columns] or turned; p undefined: ones (a column sum, [columns]).
Tensor sum_over_rows(const Plan& plan, const Tensor& x, const Tensor& p, const std::vector<RowRange>& ranges, double scale,
                     const DropoutMask& mask, bool turned) {
  const int64_t rank = p.defined() ? p.size(1) : 1, columns = x.size(1);
  Tensor out = empty(!p.defined() ? Shape{columns} : turned ? Shape{columns, rank} : Shape{rank, columns}, plan.wide);
  enqueue("sumOverRows", {x, p}, {out}, [=, wide = plan.wide, level = plan.level] {
    static const double one = 1;
    static const float one_f32 = 1;
    const void* ones = wide == DType::f64 ? static_cast<const void*>(&one) : &one_f32;
    gemm_rows_kernel.at_level(level)({x.raw(), x.dtype(), x.strides()[0], columns, p.defined() ? p.raw() : ones,
                                      p.defined() ? p.strides()[0] : 0, rank, ranges.data(), static_cast<int64_t>(ranges.size()), scale,
                                      mask, out.raw(), turned});
  });
  return out;
}

/// What the backward keeps of one layer.
struct KeptLayer {
  LowRankPlanPtr plan;
  PackedWeightPtr packed;
  DType dense_dtype = DType::u8;  // u8: no dense weight
  Saved dense;
  std::vector<Saved> a, b, z;
  size_t first_input = 0;

  // Positions of its inputs among those of the recorded op, behind x.
  size_t bias_input() const { return first_input; }
  size_t dense_input() const { return first_input + 1; }
  size_t a_input(size_t i) const { return first_input + 2 + 3 * i; }
  size_t b_input(size_t i) const { return first_input + 3 + 3 * i; }
  size_t adapter_bias_input(size_t i) const { return first_input + 4 + 3 * i; }
};

struct Kept {
  Shape x_shape;
  Saved x;
  std::vector<KeptLayer> layers;

  const char* op() const { return layers[0].plan->op; }
};

constexpr size_t kX = 0;

std::vector<LowRankPlanPtr> plans_of(const Kept& kept) {
  std::vector<LowRankPlanPtr> plans;
  for (const KeptLayer& layer : kept.layers) plans.push_back(layer.plan);
  return plans;
}

PackedOperand weight_for_dx(const KeptLayer& layer) {
  PackedOperand right;
  if (layer.packed) return layer.packed->backward();
  if (layer.dense_dtype != DType::u8)
    right.panels = pack_matrix(layer.dense.get(layer.plan->op), true, layer.plan->level, layer.plan->panel);
  return right;
}

/// dx and the gradients dz of every z that is asked for, as one job: dx = Σ dy W + dz A over the layers, dz = dy (scale B). The layers are
/// added from the last one on, as a tape of single layers would do.
StackedZ input_gradients(const Kept& kept, const Tensors& dy, const Wanted& wanted, Tensor& dx) {
  const char* op = kept.op();
  std::vector<std::vector<bool>> takes_part;
  for (size_t l = 0; l < kept.layers.size(); ++l) {
    const KeptLayer& layer = kept.layers[l];
    auto& own = takes_part.emplace_back();
    for (size_t i = 0; i < layer.plan->adapters.size(); ++i) own.push_back(dy[l].defined() && (wanted[kX] || wanted[layer.a_input(i)]));
  }
  StackedZ dz = empty_z(plans_of(kept), stack_adapters(plans_of(kept), takes_part));
  if (wanted[kX]) dx = empty(kept.x_shape, kept.layers[0].plan->dtype);
  std::vector<LowRankRun> runs;
  for (size_t l = kept.layers.size(); l-- > 0;) {
    if (!dy[l].defined()) continue;
    const KeptLayer& layer = kept.layers[l];
    LowRankRun run{layer.plan, true, dy[l], {}, Tensor(), dx, {}, {}, {}, {}, {}};
    if (wanted[kX]) run.right = weight_for_dx(layer);
    for (size_t i = 0; i < layer.plan->adapters.size(); ++i) {
      if (!takes_part[l][i]) continue;
      run.adapters.push_back(i);
      run.z.push_back(dz.of[l][i]);
      run.shrink.push_back({layer.b[i].get(op), 1, layer.plan->adapters[i].scale});
      if (wanted[kX]) run.expand.push_back({layer.a[i].get(op), 1, 1.0});
    }
    if (wanted[kX] || !run.adapters.empty()) runs.push_back(std::move(run));
  }
  if (!runs.empty()) enqueue_low_rank(std::move(runs), {});
  return dz;
}

/// Gradients of the factors A: one product for each stack of dz.
void shrink_gradients(const Kept& kept, const Tensor& x, const StackedZ& dz, const Wanted& wanted, Tensors& out) {
  for (size_t s = 0; s < dz.stacks.size(); ++s) {
    const auto& members = dz.stacks[s].members;
    const auto input_of = [&](const auto& member) { return kept.layers[member.first].a_input(member.second); };
    if (std::none_of(members.begin(), members.end(), [&](const auto& member) { return wanted[input_of(member)]; })) continue;
    const Plan& plan = *kept.layers[members[0].first].plan;
    const Plan::Adapter& adapter = plan.adapters[members[0].second];
    const Tensor all = sum_over_rows(plan, x, dz.whole[s], adapter.ranges, adapter.keep_scale(), adapter.mask, false);
    int64_t row = 0;
    for (const auto& member : members) {
      const int64_t rank = kept.layers[member.first].plan->adapters[member.second].rank;
      if (wanted[input_of(member)]) out[input_of(member)] = narrow(all, 0, row, rank);
      row += rank;
    }
  }
}

/// The gradients of one layer that need dy and z alone.
void output_gradients(const KeptLayer& layer, const Tensor& dy, const Wanted& wanted, Tensors& out) {
  const Plan& plan = *layer.plan;
  if (wanted[layer.bias_input()]) out[layer.bias_input()] = sum_over_rows(plan, dy, Tensor(), {{0, 0, plan.m}}, 1, {}, false);
  for (size_t i = 0; i < plan.adapters.size(); ++i) {
    const Plan::Adapter& adapter = plan.adapters[i];
    if (wanted[layer.b_input(i)]) {
      out[layer.b_input(i)] = sum_over_rows(plan, dy, layer.z[i].get(plan.op), adapter.ranges, adapter.scale, {}, true);
    }
    if (wanted[layer.adapter_bias_input(i)]) {
      out[layer.adapter_bias_input(i)] = sum_over_rows(plan, dy, Tensor(), adapter.ranges, adapter.scale, {}, false);
    }
  }
}

Tensors products_backward(const Kept& kept, const Tensors& gradients, const Wanted& wanted) {
  Tensors out(wanted.size()), dy;
  for (const Tensor& gradient : gradients) dy.push_back(gradient.defined() ? as_matrix(gradient) : gradient);
  const StackedZ dz = input_gradients(kept, dy, wanted, out[kX]);
  Tensor x;
  if (kept.x.get(kept.op()).defined()) x = as_matrix(kept.x.get(kept.op()));
  shrink_gradients(kept, x, dz, wanted, out);
  for (size_t l = 0; l < kept.layers.size(); ++l) {
    if (!dy[l].defined()) continue;  // nothing uses the output of this layer
    const KeptLayer& layer = kept.layers[l];
    if (wanted[layer.dense_input()]) out[layer.dense_input()] = matmul_raw(kept.op(), transposed(dy[l]), x, layer.dense_dtype);
    output_gradients(layer, dy[l], wanted, out);
  }
  return out;
}

/// The product of one layer in the forward.
LowRankRun forward_run(const LowRankPlanPtr& plan, const LowRankLayer& layer, const Tensor& x, const Tensor& y, const Tensors& z) {
  LowRankRun run{plan, false, x, {}, Tensor(), y, {}, {}, {}, z, {}};
  if (layer.weight.packed) {
    run.right = layer.weight.packed->forward();
  } else if (layer.weight.dense.defined()) {
    run.right.panels = pack_matrix(layer.weight.dense, false, plan->level, plan->panel);
  }
  if (layer.bias.defined()) {
    NoGrad no_grad;
    run.bias = contiguous(layer.bias.detach());
  }
  const LowRankAdapters& adapters = layer.adapters;
  for (size_t i = 0; i < adapters.count(); ++i) {
    run.adapters.push_back(i);
    run.shrink.push_back({adapters.a[i].detach(), 0, 1.0});
    run.expand.push_back({adapters.b[i].detach(), 0, plan->adapters[i].scale});
    run.biases.push_back(detached(adapters.biases[i]));
  }
  return run;
}

/// What backward needs of a layer; `x_needed` is set where that is x.
KeptLayer keep(const LowRankPlanPtr& plan, const LowRankLayer& layer, bool x_wanted, const Tensors& z, bool& x_needed) {
  KeptLayer kept;
  kept.plan = plan;
  kept.packed = layer.weight.packed;
  if (layer.weight.dense.defined()) kept.dense_dtype = layer.weight.dense.dtype();
  if (x_wanted) kept.dense = Saved(layer.weight.dense);
  x_needed = x_needed || requires_grad(layer.weight.dense);
  const LowRankAdapters& adapters = layer.adapters;
  for (size_t i = 0; i < adapters.count(); ++i) {
    const bool a_wanted = requires_grad(adapters.a[i]);
    x_needed = x_needed || a_wanted;
    kept.a.push_back(x_wanted ? Saved(adapters.a[i]) : Saved());
    kept.b.push_back(x_wanted || a_wanted ? Saved(adapters.b[i]) : Saved());
    kept.z.push_back(requires_grad(adapters.b[i]) ? Saved(z[i]) : Saved());
  }
  return kept;
}

/// Checked layers of one x as one op.
Tensors run_layers(const std::vector<LowRankPlanPtr>& plans, const Tensor& x, const std::vector<LowRankLayer>& layers) {
  std::vector<std::vector<bool>> all;
  for (const LowRankPlanPtr& plan : plans) all.emplace_back(plan->adapters.size(), true);
  const StackedZ z = empty_z(plans, stack_adapters(plans, all));
  const Tensor rows = as_matrix(x);
  Tensors inputs{x}, y;
  std::vector<LowRankRun> runs;
  for (size_t l = 0; l < layers.size(); ++l) {
    Shape shape = x.shape();
    shape[x.rank() - 1] = plans[l]->n;
    y.push_back(empty(shape, plans[l]->dtype));
    runs.push_back(forward_run(plans[l], layers[l], rows, y[l], z.of[l]));
    inputs.insert(inputs.end(), {layers[l].bias, layers[l].weight.dense});
    const LowRankAdapters& adapters = layers[l].adapters;
    for (size_t i = 0; i < adapters.count(); ++i) inputs.insert(inputs.end(), {adapters.a[i], adapters.b[i], adapters.biases[i]});
  }
  enqueue_low_rank(std::move(runs), z.stacks);
  if (!needs_record(inputs)) return y;

  auto kept = std::make_shared<Kept>();
  kept->x_shape = x.shape();
  bool x_needed = false;
  size_t input = kX + 1;
  for (size_t l = 0; l < layers.size(); ++l) {
    kept->layers.push_back(keep(plans[l], layers[l], requires_grad(x), z.of[l], x_needed));
    kept->layers[l].first_input = input;
    input = kept->layers[l].a_input(layers[l].adapters.count());
  }
  if (x_needed) kept->x = Saved(x);
  Tensors out;
  for (const Tensor& own : y) out.push_back(own.detach());
  record(
      plans[0]->op, inputs, out, [kept](const Tensors& dy, const Wanted& wanted) { return products_backward(*kept, dy, wanted); },
      AbsentGradient::undefined);
  return out;
}

/// Products in 8-bit integers have jobs of their own.
bool in_integers(const LowRankLayer& layer) {
  const PackedWeightPtr& packed = layer.weight.packed;
  return packed && (packed->panel() == Panel::int8 || packed->layout() == WeightLayout::codes);
}

bool run_as_one(const std::vector<LowRankPlanPtr>& plans, const std::vector<LowRankLayer>& layers) {
  if (std::any_of(layers.begin(), layers.end(), in_integers)) return false;
  const Plan& first = *plans[0];
  return plans.size() <= static_cast<size_t>(kMostJoint) && std::all_of(plans.begin(), plans.end(), [&](const LowRankPlanPtr& plan) {
           return plan->level == first.level && plan->panel == first.panel && plan->arithmetic == first.arithmetic;
         });
}

}  // namespace

Tensor low_rank_product(const char* op, const Tensor& x, const LowRankLayer& layer) {
  return run_layers({plan_low_rank_product(op, x, layer)}, x, {layer})[0];
}

Tensors low_rank_products(const char* op, const Tensor& x, const std::vector<LowRankLayer>& layers) {
  check_argument(!layers.empty(), op, ": needs at least one layer; got none");
  std::vector<LowRankPlanPtr> plans;
  for (const LowRankLayer& layer : layers) plans.push_back(plan_low_rank_product(op, x, layer));
  if (run_as_one(plans, layers)) return run_layers(plans, x, layers);
  Tensors y;
  for (size_t l = 0; l < layers.size(); ++l) y.push_back(run_layers({plans[l]}, x, {layers[l]})[0]);
  return y;
}

}  // namespace lorikeet
