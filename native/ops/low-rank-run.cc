#include "ops/low-rank-run.h"

#include <algorithm>
#include <memory>

#include "core/parallel.h"
#include "core/stream.h"
#include "ops/shape.h"

namespace lorikeet {
namespace {

using Plan = LowRankProductPlan;

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

bool same_rows(const Plan::Adapter& a, const Plan::Adapter& b) {
  return a.mask.p == 0 && b.mask.p == 0 &&
         std::equal(a.ranges.begin(), a.ranges.end(), b.ranges.begin(), b.ranges.end(),
                    [](const RowRange& r, const RowRange& s) { return r.x_row == s.x_row && r.rows == s.rows; });
}

/// Copies a matrix of any strides to rows of `T`.
template <class T>
void copy_rows(const Tensor& source, T* target) {
  const int64_t row_stride = source.strides()[0], column_stride = source.strides()[1];
  LORIKEET_FLOAT_SWITCH(
      source.dtype(), S, for (int64_t r = 0; r < source.size(0); ++r) {
        const S* row = source.data<S>() + r * row_stride;
        for (int64_t c = 0; c < source.size(1); ++c) *target++ = static_cast<T>(load(row + c * column_stride));
      });
}

/// Work of the engine thread: one of its parts for each run.
struct Job {
  std::vector<LowRankRun> runs;
  std::vector<LowRankStack> stacks;

  const Plan& plan_of(size_t i) const { return *runs[i].plan; }
  int64_t inputs_of(size_t i) const { return runs[i].backward ? plan_of(i).n : plan_of(i).k; }
  int64_t outputs_of(size_t i) const { return runs[i].backward ? plan_of(i).k : plan_of(i).n; }

  void execute() const;
};

/// What the products of a job point to.
class Operands {
 public:
  explicit Operands(const Job& job)
      : job_(job), panel_(panel_for(job.plan_of(0).arithmetic)), memory_(bytes()), free_(memory_.as<char>()) {}

  /// The terms of run `i`, their factors packed.
  std::vector<LowRankTerm> terms(size_t i) {
    const LowRankRun& run = job_.runs[i];
    const Plan& plan = *run.plan;
    std::vector<LowRankTerm> terms;
    for (size_t t = 0; t < run.adapters.size(); ++t) {
      const Plan::Adapter& adapter = plan.adapters[run.adapters[t]];
      LowRankTerm term{};
      term.rank = adapter.rank;
      term.z = run.z[t].raw();
      term.z_row_stride = run.z[t].strides()[0];
      term.shrink_scale = run.backward ? 1 : adapter.keep_scale();
      term.mask = adapter.mask;
      term.mask_input = adapter.mask.p > 0 && !run.backward;
      term.mask_output = adapter.mask.p > 0 && run.backward;
      term.output_scale = adapter.keep_scale();
      put_shrink(i, t, term);
      if (run.y.defined()) {
        term.expand = pack(run.expand[t].source, run.expand[t].output_dim, run.expand[t].scale, 2);
        if (!run.backward && run.biases[t].defined()) term.bias = widen_bias(run.biases[t], adapter.scale);
      }
      terms.push_back(term);
    }
    return terms;
  }

 private:
  int64_t bytes() const {
    int64_t total = 0;
    for (size_t i = 0; i < job_.runs.size(); ++i) {
      const Plan& plan = job_.plan_of(i);
      const int64_t inputs = job_.inputs_of(i), outputs = job_.outputs_of(i);
      for (size_t adapter : job_.runs[i].adapters) {
        const int64_t rank = plan.adapters[adapter].rank;
        total += aligned(panel_bytes(plan.level, panel_, rank, inputs, 1)) + aligned(panel_bytes(plan.level, panel_, outputs, rank, 2)) +
                 aligned(outputs * size_of(plan.wide));
      }
    }
    return total;
  }

  char* take(int64_t size) {
    char* place = free_;
    free_ += aligned(size);
    return place;
  }

  const void* pack(const void* source, DType dtype, int64_t outputs, int64_t contraction, int64_t output_stride, int64_t contraction_stride,
                   double scale, int vectors) {
    const Level level = job_.plan_of(0).level;
    char* panels = take(panel_bytes(level, panel_, outputs, contraction, vectors));
    gemm_pack_kernel.at_level(level)(
        {source, dtype, outputs, contraction, output_stride, contraction_stride, scale, panel_, vectors, panels});
    return panels;
  }

  const void* pack(const Tensor& t, int output_dim, double scale, int vectors) {
    const int contracted = 1 - output_dim;
    return pack(t.raw(), t.dtype(), t.size(output_dim), t.size(contracted), t.strides()[output_dim], t.strides()[contracted], scale,
                vectors);
  }

  /// The panels that adapter t of run i shrinks by: its own, or those of its stack, which the first member makes.
  void put_shrink(size_t i, size_t t, LowRankTerm& term) {
    const LowRankRun& run = job_.runs[i];
    const std::pair<size_t, size_t> self{i, run.adapters[t]};
    for (size_t s = 0; s < job_.stacks.size() && !run.backward; ++s) {
      const LowRankStack& stack = job_.stacks[s];
      if (stack.members.size() < 2 || std::find(stack.members.begin(), stack.members.end(), self) == stack.members.end()) continue;
      if (stack.members.front() == self) {
        shared_.resize(job_.stacks.size());
        shared_[s] = {pack_stack(stack), 0};
      }
      term.shrink = shared_[s].first;
      term.shrink_column = shared_[s].second;
      shared_[s].second += term.rank;
      return;
    }
    term.shrink = pack(run.shrink[t].source, run.shrink[t].output_dim, run.shrink[t].scale, 1);
  }

  /// The factors A of a stack below each other, [columns, K].
  const void* pack_stack(const LowRankStack& stack) {
    const Plan& plan = job_.plan_of(0);
    Scratch rows(stack.columns * plan.k * size_of(plan.wide));
    int64_t place = 0;
    for (const auto& [layer, adapter] : stack.members) {
      const LowRankRun& run = job_.runs[layer];
      const auto t = std::find(run.adapters.begin(), run.adapters.end(), adapter) - run.adapters.begin();
      const Tensor& a = run.shrink[static_cast<size_t>(t)].source;
      if (plan.wide == DType::f64) {
        copy_rows(a, rows.as<double>() + place);
      } else {
        copy_rows(a, rows.as<float>() + place);
      }
      place += a.numel();
    }
    return pack(rows.as<void>(), plan.wide, stack.columns, plan.k, plan.k, 1, 1.0, 1);
  }

  /// scale * bias in the type of the accumulators.
  const void* widen_bias(const Tensor& bias, double scale) {
    const int64_t stride = bias.strides()[0], count = bias.size(0);
    const DType wide = job_.plan_of(0).wide;
    char* out = take(count * size_of(wide));
    LORIKEET_FLOAT_SWITCH(
        bias.dtype(), T, for (int64_t j = 0; j < count; ++j) {
          const double value = static_cast<double>(load(bias.data<T>() + j * stride)) * scale;
          if (wide == DType::f64) {
            reinterpret_cast<double*>(out)[j] = value;
          } else {
            reinterpret_cast<float*>(out)[j] = static_cast<float>(value);
          }
        });
    return out;
  }

  const Job& job_;
  Panel panel_;
  Scratch memory_;
  char* free_;
  std::vector<std::pair<const void*, int64_t>> shared_;  // panels of a stack, and how many of its columns are given out
};

/// The rows of the plan's adapters that take part, by number of their term.
std::vector<LowRankRows> rows_of(const LowRankRun& run) {
  std::vector<LowRankRows> rows;
  for (LowRankRows part : run.plan->rows) {
    const auto t = std::find(run.adapters.begin(), run.adapters.end(), static_cast<size_t>(part.term));
    if (t == run.adapters.end()) continue;
    part.term = static_cast<int32_t>(t - run.adapters.begin());
    rows.push_back(part);
  }
  return rows;
}

/// Packs the factors and runs the products.
void Job::execute() const {
  Operands operands(*this);
  std::vector<std::vector<LowRankTerm>> terms;
  std::vector<std::vector<LowRankRows>> rows;
  std::vector<GemmArgs> products;
  for (size_t i = 0; i < runs.size(); ++i) {
    const LowRankRun& run = runs[i];
    const Plan& plan = *run.plan;
    terms.push_back(operands.terms(i));
    rows.push_back(rows_of(run));
    GemmArgs args{};
    args.x = run.x.raw();
    args.x_dtype = plan.dtype;
    args.x_row_stride = run.x.strides()[0];
    args.x_column_stride = run.x.strides()[1];
    args.y = run.y.defined() ? run.y.raw() : nullptr;
    args.y_dtype = plan.dtype;
    args.y_row_stride = outputs_of(i);
    args.m = plan.m;
    args.k = inputs_of(i);
    args.n = outputs_of(i);
    args.arithmetic = plan.arithmetic;
    args.right = run.right.pointers(plan.panel);
    args.bias = run.bias.defined() ? run.bias.raw() : nullptr;
    args.bias_dtype = run.bias.defined() ? run.bias.dtype() : plan.dtype;
    args.terms = terms[i].data();
    args.term_count = static_cast<int64_t>(terms[i].size());
    args.rows = rows[i].data();
    args.row_count = static_cast<int64_t>(rows[i].size());
    products.push_back(args);
  }
  gemm_joint_kernel.at_level(plan_of(0).level)({products.data(), static_cast<int64_t>(products.size()), runs[0].backward});
}

}  // namespace

std::vector<LowRankStack> stack_adapters(const std::vector<LowRankPlanPtr>& plans, const std::vector<std::vector<bool>>& takes_part) {
  std::vector<LowRankStack> stacks;
  for (size_t layer = 0; layer < plans.size(); ++layer) {
    for (size_t i = 0; i < plans[layer]->adapters.size(); ++i) {
      if (!takes_part[layer][i]) continue;
      const Plan::Adapter& adapter = plans[layer]->adapters[i];
      auto found = std::find_if(stacks.begin(), stacks.end(), [&](const LowRankStack& stack) {
        const auto& [first, other] = stack.members.front();
        return stack.members.size() < static_cast<size_t>(kMostJoint) && same_rows(plans[first]->adapters[other], adapter);
      });
      if (found == stacks.end()) found = stacks.insert(found, LowRankStack{});
      found->members.emplace_back(layer, i);
      found->columns += adapter.rank;
    }
  }
  return stacks;
}

StackedZ empty_z(const std::vector<LowRankPlanPtr>& plans, std::vector<LowRankStack> stacks) {
  StackedZ z{std::move(stacks), {}, {}};
  for (const LowRankPlanPtr& plan : plans) z.of.emplace_back(plan->adapters.size());
  for (const LowRankStack& stack : z.stacks) {
    const auto& [layer, adapter] = stack.members.front();
    Tensor whole = empty({plans[layer]->adapters[adapter].rows, stack.columns}, plans[layer]->wide);
    int64_t column = 0;
    for (const auto& [at, i] : stack.members) {
      const int64_t rank = plans[at]->adapters[i].rank;
      z.of[at][i] = narrow(whole, 1, column, rank);
      column += rank;
    }
    z.whole.push_back(whole);
  }
  return z;
}

void enqueue_low_rank(std::vector<LowRankRun> runs, const std::vector<LowRankStack>& stacks) {
  const char* op = runs[0].plan->op;
  Tensors inputs, outputs;
  for (const LowRankRun& run : runs) {
    if (run.backward || inputs.empty()) inputs.push_back(run.x);
  }
  if (inputs.size() < runs.size()) inputs.emplace_back();  // a gap behind the x of several layers
  for (const LowRankRun& run : runs) {
    inputs.push_back(run.bias);
    run.right.append_to(inputs);
    for (const LowRankFactor& factor : run.shrink) inputs.push_back(factor.source);
    for (const LowRankFactor& factor : run.expand) inputs.push_back(factor.source);
    for (const Tensor& bias : run.biases) inputs.push_back(bias);
    if (!outputs.empty()) outputs.emplace_back();  // a gap between the layers
    outputs.insert(outputs.end(), run.z.begin(), run.z.end());
    if (!run.backward || &run == &runs.back()) outputs.push_back(run.y);
  }
  auto job = std::make_shared<const Job>(Job{std::move(runs), stacks});
  enqueue(op, std::move(inputs), std::move(outputs), [job] { job->execute(); });
}

}  // namespace lorikeet
