#include "ops/cross-entropy.h"

#include "core/stream.h"
#include "ops/copy.h"
#include "ops/cross-entropy-chunks.h"
#include "ops/shape.h"

namespace lorikeet {
namespace {

DType wide_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// Targets as contiguous i64, checked against the rows of x [.., C].
Tensor checked_targets(const char* op, const Tensor& x, const Tensor& targets) {
  check_argument(targets.dtype() == DType::i64 || targets.dtype() == DType::i32, op, ": targets must be i64 or i32; got ",
                 name_of(targets.dtype()));
  bool fits = x.rank() == targets.rank() + 1;
  for (int i = 0; fits && i < targets.rank(); ++i) fits = x.size(i) == targets.size(i);
  check_shape(fits, op, ": targets do not fit; got ", to_string(x.shape()), " and targets ", to_string(targets.shape()),
              ", expected one target for each row");
  return cast(contiguous(targets.detach()), DType::i64);
}

LossPlan make_plan(const Tensor& hidden, const BaseWeight& head, const std::optional<Tensor>& bias, int64_t ignore_index,
                   double logit_scale) {
  check_argument(is_float(hidden.dtype()), "crossEntropy: needs floating hidden states; got ", name_of(hidden.dtype()));
  check(hidden.device() == Device::cpu, ErrorCode::device, "crossEntropy: no cuda kernel in this build");
  const Shape& shape = head.packed ? head.packed->shape() : head.dense.shape();
  DType dtype = head.packed ? head.packed->dtype() : head.dense.dtype();
  check_shape(shape.rank() == 2 && hidden.rank() >= 1 && hidden.size(-1) == shape[1], "crossEntropy: the head does not fit; got hidden ",
              to_string(hidden.shape()), " and head ", to_string(shape), ", expected [vocabulary, width]");
  check_argument(is_float(dtype) && (dtype == DType::f64) == (hidden.dtype() == DType::f64), "crossEntropy: dtypes do not fit; got hidden ",
                 name_of(hidden.dtype()), " and head ", name_of(dtype), ", expected both or neither in f64");
  LossPlan plan{};
  plan.dtype = hidden.dtype();
  plan.wide = wide_of(hidden.dtype());
  plan.level = head.packed ? head.packed->level() : active_level();
  plan.panel = head.packed ? head.packed->panel() : panel_for(dtype);
  plan.width = shape[1];
  plan.vocabulary = shape[0];
  plan.rows = 1;
  for (int i = 0; i + 1 < hidden.rank(); ++i) plan.rows *= hidden.size(i);
  plan.ignore_index = ignore_index;
  plan.logit_scale = logit_scale;
  plan.bias_dtype = bias ? bias->dtype() : DType::f32;
  if (bias) {
    check_shape(bias->rank() == 1 && bias->size(0) == plan.vocabulary, "crossEntropy: the bias does not fit; got ",
                to_string(bias->shape()), ", expected [", plan.vocabulary, "]");
    check_argument(is_float(bias->dtype()) && (bias->dtype() == DType::f64) == (plan.wide == DType::f64),
                   "crossEntropy: the bias has another precision; got ", name_of(bias->dtype()), " beside ", name_of(plan.dtype));
  }
  return plan;
}

void* raw_or_null(const Tensor& x) { return x.defined() ? x.raw() : nullptr; }

Tensor plain(const Tensor& x) { return x.defined() ? x.detach() : x; }

/// Queues one run over the chunks; undefined tensors are left out.
void enqueue_chunks(const LossPlan& plan, const Tensor& hidden, const PackedOperand& head, const PackedOperand& head_turned,
                    const Tensor& bias, const Tensor& targets, const Tensor& weights, const Tensor& losses, const Tensor& dhidden,
                    const Tensor& dhead, const Tensor& dbias) {
  Tensors inputs{hidden, bias, targets, weights};
  head.append_to(inputs);
  head_turned.append_to(inputs);
  enqueue("crossEntropy", std::move(inputs), {losses, dhidden, dhead, dbias}, [=] {
    run_loss_chunks(plan,
                    {hidden.raw(), head.pointers(plan.panel), head_turned.pointers(plan.panel), raw_or_null(bias), targets.data<int64_t>(),
                     raw_or_null(weights), raw_or_null(losses), raw_or_null(dhidden), raw_or_null(dhead), raw_or_null(dbias)});
  });
}

PackedOperand forward_panels(const LossPlan& plan, const PackedWeightPtr& packed, const Tensor& dense) {
  return packed ? packed->forward() : PackedOperand{pack_matrix(dense, false, plan.level, plan.panel), nullptr};
}

PackedOperand backward_panels(const LossPlan& plan, const PackedWeightPtr& packed, const Tensor& dense) {
  return packed ? packed->backward() : PackedOperand{pack_matrix(dense, true, plan.level, plan.panel), nullptr};
}

/// Rows of x times their weights.
Tensor scaled_rows(const Tensor& x, const Tensor& weights, int64_t rows, int64_t columns) {
  Tensor out = empty_like(x);
  enqueue("crossEntropy backward", {x, weights}, {out}, [=] {
    scale_rows_kernel({x.dtype(), x.raw(), weights.raw(), out.raw(), rows, columns});
  });
  return out;
}

}  // namespace

Tensor cross_entropy(const Tensor& input_hidden, const BaseWeight& head, const std::optional<Tensor>& input_bias,
                     const Tensor& input_targets, int64_t ignore_index, double logit_scale) {
  LossPlan plan = make_plan(input_hidden, head, input_bias, ignore_index, logit_scale);
  Tensor targets = checked_targets("crossEntropy", input_hidden, input_targets);
  Tensor hidden = contiguous(input_hidden), bias = input_bias ? contiguous(*input_bias) : Tensor();
  Tensor losses = empty(targets.shape(), plan.wide);
  bool records = needs_record({&hidden, &head.dense, &bias});
  bool again = records && (requires_grad(head.dense) || requires_grad(bias));
  bool now = records && !again;
  PackedOperand panels = forward_panels(plan, head.packed, plain(head.dense));
  PackedOperand turned = now ? backward_panels(plan, head.packed, plain(head.dense)) : PackedOperand{};
  Tensor unit_gradient = now ? empty_like(hidden) : Tensor();
  enqueue_chunks(plan, hidden.detach(), panels, turned, plain(bias), targets, Tensor(), losses.detach(), unit_gradient, Tensor(), Tensor());
  if (now) {
    record("crossEntropy", {hidden}, {losses}, [=](const Tensors& dy, const Wanted&) -> Tensors {
      return {scaled_rows(unit_gradient, contiguous(dy[0]), plan.rows, plan.width)};
    });
  } else if (again) {
    Saved saved_hidden(hidden), saved_head(head.dense), saved_bias(bias);
    Shape head_shape{plan.vocabulary, plan.width};
    record("crossEntropy", {hidden, head.dense, bias}, {losses},
           [=, packed = head.packed](const Tensors& dy, const Wanted& wanted) -> Tensors {
             const Tensor &dense = saved_head.get("crossEntropy"), &hidden = saved_hidden.get("crossEntropy");
             PackedOperand turned = wanted[0] ? backward_panels(plan, packed, dense) : PackedOperand{};
             Tensors gradients{wanted[0] ? empty_like(hidden) : Tensor(), wanted[1] ? empty(head_shape, plan.wide) : Tensor(),
                               wanted[2] ? empty(Shape{plan.vocabulary}, plan.wide) : Tensor()};
             enqueue_chunks(plan, hidden, forward_panels(plan, packed, dense), turned, saved_bias.get("crossEntropy"), targets,
                            contiguous(dy[0]), Tensor(), gradients[0], gradients[1], gradients[2]);
             return gradients;
           });
  }
  return losses;
}

Tensor logits_cross_entropy(const Tensor& input, const Tensor& input_targets, int64_t ignore_index, double logit_scale) {
  check_argument(is_float(input.dtype()), "logitsCrossEntropy: needs floating logits; got ", name_of(input.dtype()));
  check_shape(input.rank() >= 1, "logitsCrossEntropy: needs at least one dimension; got a scalar");
  check(input.device() == Device::cpu, ErrorCode::device, "logitsCrossEntropy: no cuda kernel in this build");
  Tensor targets = checked_targets("logitsCrossEntropy", input, input_targets), logits = contiguous(input);
  LossPlan plan{};
  plan.rows = targets.numel();
  plan.vocabulary = logits.size(-1);
  plan.ignore_index = ignore_index;
  Tensor losses = empty(targets.shape(), wide_of(logits.dtype()));
  LossRowsArgs args{};
  args.dtype = args.gradient_dtype = logits.dtype();
  args.rows = plan.rows;
  args.columns = args.logits_row_stride = args.gradient_row_stride = plan.vocabulary;
  args.ignore_index = ignore_index;
  args.scale = logit_scale;
  enqueue("logitsCrossEntropy", {logits, targets}, {losses}, [=, logits = logits.detach(), losses = losses.detach()]() mutable {
    plan.valid_rows("logitsCrossEntropy", targets.data<int64_t>());
    args.logits = logits.raw();
    args.targets = targets.data<int64_t>();
    args.losses = losses.raw();
    loss_rows_kernel(args);
  });
  if (needs_record({&logits})) {
    Saved saved(logits);
    record("logitsCrossEntropy", {logits}, {losses}, [=](const Tensors& dy, const Wanted&) -> Tensors {
      const Tensor& logits = saved.get("logitsCrossEntropy");
      Tensor weights = contiguous(dy[0]), dlogits = empty_like(logits);
      enqueue("logitsCrossEntropy", {logits, targets, weights}, {dlogits}, [=]() mutable {
        args.logits = logits.raw();
        args.targets = targets.data<int64_t>();
        args.weights = weights.raw();
        args.gradients = dlogits.raw();
        loss_rows_kernel(args);
      });
      return {dlogits};
    });
  }
  return losses;
}

}  // namespace lorikeet
