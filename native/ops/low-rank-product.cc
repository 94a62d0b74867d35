#include "ops/low-rank-product.h"

#include "core/parallel.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/low-rank-plan.h"
#include "ops/matmul.h"

namespace lorikeet {
namespace {

using Plan = LowRankProductPlan;

/// The factors of one term of a product, as a product sees them: shrink contracts over the columns of x, expand over the rank.
struct Factor {
  Tensor source;
  int output_dim;  // dimension of `source` that is the output; the other one is contracted
  double scale;
};

/// A low-rank product to run: of the forward (x, A, scale B) or of the backward (dy, scale Bᵀ, Aᵀ).
struct Run {
  LowRankPlanPtr plan;
  bool backward;
  Tensor x;
  PackedOperand right;                 // undefined: no base product
  Tensor bias, y;                      // y undefined: only z is wanted
  std::vector<int64_t> adapters;       // those that take part
  std::vector<Factor> shrink, expand;  // one for each of `adapters`
  Tensors z, biases;                   // likewise
};

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

void pack_factor(const Plan& plan, const Factor& factor, int vectors, void* panels) {
  const Tensor& t = factor.source;
  const int contracted = 1 - factor.output_dim;
  gemm_pack_kernel.at_level(plan.level)({t.raw(), t.dtype(), t.size(factor.output_dim), t.size(contracted), t.strides()[factor.output_dim],
                                         t.strides()[contracted], factor.scale, panel_for(plan.arithmetic), vectors, panels});
}

/// scale * bias in the type of the accumulators.
void widen_bias(const Plan& plan, const Tensor& bias, double scale, void* out) {
  const int64_t stride = bias.strides()[0];
  LORIKEET_FLOAT_SWITCH(
      bias.dtype(), T, for (int64_t j = 0; j < plan.n; ++j) {
        const double value = static_cast<double>(load(bias.data<T>() + j * stride)) * scale;
        if (plan.wide == DType::f64) {
          static_cast<double*>(out)[j] = value;
        } else {
          static_cast<float*>(out)[j] = static_cast<float>(value);
        }
      });
}

/// Packs the factors and runs the product; engine thread.
void execute(const Run& run) {
  const Plan& plan = *run.plan;
  const int64_t inputs = run.backward ? plan.n : plan.k, outputs = run.backward ? plan.k : plan.n;
  const Panel panel = panel_for(plan.arithmetic);
  int64_t bytes = 0;
  for (int64_t i : run.adapters) {
    const int64_t rank = plan.adapters[static_cast<size_t>(i)].rank;
    bytes += aligned(panel_bytes(plan.level, panel, rank, inputs, 1)) + aligned(panel_bytes(plan.level, panel, outputs, rank, 2)) +
             aligned(outputs * size_of(plan.wide));
  }
  Scratch memory(bytes);
  char* free = memory.as<char>();
  std::vector<LowRankTerm> terms;
  std::vector<int32_t> term_of(plan.adapters.size(), -1);
  for (size_t t = 0; t < run.adapters.size(); ++t) {
    const auto index = static_cast<size_t>(run.adapters[t]);
    const Plan::Adapter& adapter = plan.adapters[index];
    LowRankTerm term{};
    term.rank = adapter.rank;
    term.z = run.z[t].raw();
    term.shrink_scale = run.backward ? 1 : adapter.keep_scale();
    term.mask = adapter.mask;
    term.mask_input = adapter.mask.p > 0 && !run.backward;
    term.mask_output = adapter.mask.p > 0 && run.backward;
    term.output_scale = adapter.keep_scale();
    term.shrink = free;
    pack_factor(plan, run.shrink[t], 1, free);
    free += aligned(panel_bytes(plan.level, panel, adapter.rank, inputs, 1));
    if (run.y.defined()) {
      term.expand = free;
      pack_factor(plan, run.expand[t], 2, free);
      free += aligned(panel_bytes(plan.level, panel, outputs, adapter.rank, 2));
      if (!run.backward && run.biases[t].defined()) {
        term.bias = free;
        widen_bias(plan, run.biases[t], adapter.scale, free);
        free += aligned(outputs * size_of(plan.wide));
      }
    }
    term_of[index] = static_cast<int32_t>(t);
    terms.push_back(term);
  }
  std::vector<LowRankRows> rows;
  for (LowRankRows part : plan.rows) {
    part.term = term_of[static_cast<size_t>(part.term)];
    if (part.term >= 0) rows.push_back(part);
  }
  GemmArgs args{};
  args.x = run.x.raw();
  args.x_dtype = plan.dtype;
  args.x_row_stride = run.x.strides()[0];
  args.x_column_stride = run.x.strides()[1];
  args.y = run.y.defined() ? run.y.raw() : nullptr;
  args.y_dtype = plan.dtype;
  args.y_row_stride = outputs;
  args.m = plan.m;
  args.k = inputs;
  args.n = outputs;
  args.arithmetic = plan.arithmetic;
  args.right = run.right.pointers(plan.panel);
  args.bias = run.bias.defined() ? run.bias.raw() : nullptr;
  args.bias_dtype = run.bias.defined() ? run.bias.dtype() : plan.dtype;
  args.terms = terms.data();
  args.term_count = static_cast<int64_t>(terms.size());
  args.rows = rows.data();
  args.row_count = static_cast<int64_t>(rows.size());
  gemm_kernel.at_level(plan.level)(args);
}

void enqueue_run(const Run& run) {
  Tensors inputs{run.x, run.bias}, outputs = run.z;
  run.right.append_to(inputs);
  for (const Factor& factor : run.shrink) inputs.push_back(factor.source);
  for (const Factor& factor : run.expand) inputs.push_back(factor.source);
  for (const Tensor& bias : run.biases) inputs.push_back(bias);
  outputs.push_back(run.y);
  enqueue(run.plan->op, std::move(inputs), std::move(outputs), [run] { execute(run); });
}

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
    gemm_rows_kernel.at_level(level)({x.raw(), x.dtype(), x.strides()[0], columns, p.defined() ? p.raw() : ones, p.defined() ? rank : 0,
                                      rank, ranges.data(), static_cast<int64_t>(ranges.size()), scale, mask, out.raw(), turned});
  });
  return out;
}

/// What the backward of one call keeps.
struct Kept {
  LowRankPlanPtr plan;
  PackedWeightPtr packed;
  Shape x_shape;
  DType dense_dtype = DType::f32;
  Saved x, dense;
  std::vector<Saved> a, b, z;
};

/// Positions of the inputs of the recorded op.
constexpr size_t kX = 0, kBias = 1, kDense = 2, kFirstAdapter = 3;
constexpr size_t a_input(size_t i) { return kFirstAdapter + 3 * i; }
constexpr size_t b_input(size_t i) { return kFirstAdapter + 3 * i + 1; }
constexpr size_t bias_input(size_t i) { return kFirstAdapter + 3 * i + 2; }

/// dx and the gradients dz of every z that is asked for, in one product: dx = dy W + Σ dz A, dz = dy (scale B).
Tensors input_gradients(const Kept& kept, const Tensor& dy, const Wanted& wanted, Tensor& dx) {
  const Plan& plan = *kept.plan;
  Tensors dz(plan.adapters.size());
  Run run{kept.plan, true, dy, {}, Tensor(), Tensor(), {}, {}, {}, {}, {}};
  if (wanted[kX]) {
    dx = empty(kept.x_shape, plan.dtype);
    run.y = dx;
    if (kept.packed) {
      run.right = kept.packed->backward();
    } else if (kept.dense_dtype != DType::u8) {
      run.right.panels = pack_matrix(kept.dense.get(plan.op), true, plan.level, plan.panel);
    }
  }
  for (size_t i = 0; i < plan.adapters.size(); ++i) {
    if (!wanted[kX] && !wanted[a_input(i)]) continue;
    dz[i] = empty({plan.adapters[i].rows, plan.adapters[i].rank}, plan.wide);
    run.adapters.push_back(static_cast<int64_t>(i));
    run.z.push_back(dz[i]);
    run.shrink.push_back({kept.b[i].get(plan.op), 1, plan.adapters[i].scale});
    if (wanted[kX]) run.expand.push_back({kept.a[i].get(plan.op), 1, 1.0});
  }
  if (wanted[kX] || !run.adapters.empty()) enqueue_run(run);
  return dz;
}

Tensors product_backward(const Kept& kept, const Tensor& gradient, const Wanted& wanted) {
  const Plan& plan = *kept.plan;
  Tensors out(wanted.size());
  const Tensor dy = as_matrix(gradient);
  const Tensors dz = input_gradients(kept, dy, wanted, out[kX]);
  if (wanted[kBias]) out[kBias] = sum_over_rows(plan, dy, Tensor(), {{0, 0, plan.m}}, 1, {}, false);
  Tensor x;
  if (kept.x.get(plan.op).defined()) x = as_matrix(kept.x.get(plan.op));
  if (wanted[kDense]) out[kDense] = matmul_raw(plan.op, transposed(dy), x, kept.dense_dtype);
  for (size_t i = 0; i < plan.adapters.size(); ++i) {
    const Plan::Adapter& adapter = plan.adapters[i];
    if (wanted[a_input(i)]) out[a_input(i)] = sum_over_rows(plan, x, dz[i], adapter.ranges, adapter.keep_scale(), adapter.mask, false);
    if (wanted[b_input(i)]) out[b_input(i)] = sum_over_rows(plan, dy, kept.z[i].get(plan.op), adapter.ranges, adapter.scale, {}, true);
    if (wanted[bias_input(i)]) out[bias_input(i)] = sum_over_rows(plan, dy, Tensor(), adapter.ranges, adapter.scale, {}, false);
  }
  return out;
}

}  // namespace

Tensor low_rank_product(const char* op, const Tensor& x, const BaseWeight& weight, const Tensor& bias, const LowRankAdapters& adapters,
                        const std::vector<RowSegment>& segments) {
  LowRankPlanPtr plan = plan_low_rank_product(op, x, weight, bias, adapters, segments);
  Shape shape = x.shape();
  shape[x.rank() - 1] = plan->n;
  Tensor y = empty(shape, plan->dtype);
  Run run{plan, false, as_matrix(x), {}, Tensor(), y, {}, {}, {}, {}, {}};
  if (weight.packed) {
    run.right = weight.packed->forward();
  } else if (weight.dense.defined()) {
    run.right.panels = pack_matrix(weight.dense, false, plan->level, plan->panel);
  }
  if (bias.defined()) {
    NoGrad no_grad;
    run.bias = contiguous(bias.detach());
  }
  Tensors inputs{x, bias, weight.dense};
  for (size_t i = 0; i < adapters.count(); ++i) {
    run.adapters.push_back(static_cast<int64_t>(i));
    run.shrink.push_back({adapters.a[i].detach(), 0, 1.0});
    run.expand.push_back({adapters.b[i].detach(), 0, plan->adapters[i].scale});
    run.z.push_back(empty({plan->adapters[i].rows, plan->adapters[i].rank}, plan->wide));
    run.biases.push_back(detached(adapters.biases[i]));
    inputs.insert(inputs.end(), {adapters.a[i], adapters.b[i], adapters.biases[i]});
  }
  enqueue_run(run);
  if (!needs_record(inputs)) return y;

  auto kept = std::make_shared<Kept>();
  kept->plan = plan;
  kept->packed = weight.packed;
  kept->x_shape = x.shape();
  kept->dense_dtype = weight.dense.defined() ? weight.dense.dtype() : DType::u8;
  bool x_needed = requires_grad(weight.dense);
  if (requires_grad(x)) kept->dense = Saved(weight.dense);
  for (size_t i = 0; i < adapters.count(); ++i) {
    const bool a_wanted = requires_grad(adapters.a[i]);
    x_needed = x_needed || a_wanted;
    kept->a.push_back(requires_grad(x) ? Saved(adapters.a[i]) : Saved());
    kept->b.push_back(requires_grad(x) || a_wanted ? Saved(adapters.b[i]) : Saved());
    kept->z.push_back(requires_grad(adapters.b[i]) ? Saved(run.z[i]) : Saved());
  }
  if (x_needed) kept->x = Saved(x);
  Tensor out = y.detach();
  record(op, inputs, {out}, [kept](const Tensors& dy, const Wanted& wanted) { return product_backward(*kept, dy[0], wanted); });
  return out;
}

}  // namespace lorikeet
