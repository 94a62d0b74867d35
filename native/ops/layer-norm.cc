#include "ops/layer-norm.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/addend.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_parameter(const char* op, const char* what, const Tensor& x, const Tensor& parameter) {
  if (!parameter.defined()) return;
  check_shape(parameter.rank() == 1 && parameter.size(0) == x.size(-1), op, ": the ", what, " does not fit; got x ", to_string(x.shape()),
              " and ", what, " ", to_string(parameter.shape()), ", expected the size of x's last dimension");
  check_argument(parameter.dtype() == x.dtype() || (parameter.dtype() == DType::f32 && x.dtype() != DType::f64), op, ": the ", what,
                 " must have x's dtype or be f32; got x ", name_of(x.dtype()), " and ", what, " ", name_of(parameter.dtype()));
}

void check_inputs(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_argument(is_float(x.dtype()), op, ": needs a floating tensor; got ", name_of(x.dtype()), ", cast it first");
  check_shape(x.rank() >= 1, op, ": needs at least one dimension; got a scalar");
  check(x.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
  check_parameter(op, "weight", x, weight);
  check_parameter(op, "bias", x, bias);
  check_argument(!weight.defined() || !bias.defined() || weight.dtype() == bias.dtype(), op, ": weight and bias differ in dtype; got ",
                 weight.defined() ? name_of(weight.dtype()) : "", " and ", bias.defined() ? name_of(bias.dtype()) : "");
}

void* raw_or_null(const Tensor& x) { return x.defined() ? x.raw() : nullptr; }
Tensor plain(const Tensor& x) { return x.defined() ? x.detach() : x; }
Tensor packed(const std::optional<Tensor>& x) { return x && x->defined() ? contiguous(*x) : Tensor(); }

/// Queues one backward kernel: fills what the gradient `out` needs.
void enqueue_backward(const char* op, const Kernel<LayerNormArgs>& kernel, LayerNormArgs args, const Tensor& x, const Tensor& weight,
                      const Tensor& dy, const Tensor& dsum, const Tensor& mean, const Tensor& rstd, const Tensor& out) {
  enqueue(op, {x, weight, dy, mean, rstd, dsum}, {out}, [=, &kernel]() mutable {
    args.x = raw_or_null(x);
    args.weight = raw_or_null(weight);
    args.dy = dy.raw();
    args.dsum = raw_or_null(dsum);
    args.mean = mean.raw();
    args.rstd = rstd.raw();
    args.out = out.raw();
    kernel(args);
  });
}

/// The norm of x, or the sum x + addend and its norm: the last output is the norm.
Tensors norm(const char* op, const char* backward_op, const Tensor& x, const Tensor& addend, const Tensor& weight, const Tensor& bias,
             double eps) {
  LayerNormArgs args{};
  args.dtype = x.dtype();
  args.weight_dtype = weight.defined() ? weight.dtype() : bias.defined() ? bias.dtype() : x.dtype();
  args.columns = x.size(-1);
  args.rows = args.columns == 0 ? 0 : x.numel() / args.columns;
  args.eps = eps;
  const DType compute = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Tensor y = empty_like(x), mean = empty(Shape{args.rows}, compute), rstd = empty(Shape{args.rows}, compute);
  Tensor sum = addend.defined() ? empty_like(x) : Tensor();
  enqueue(op, {x, weight, bias, addend}, {y, sum, mean, rstd},
          [args, x = x.detach(), addend = plain(addend), weight = plain(weight), bias = plain(bias), y = y.detach(), sum = plain(sum), mean,
           rstd]() mutable {
            args.x = x.raw();
            args.addend = raw_or_null(addend);
            args.weight = raw_or_null(weight);
            args.bias = raw_or_null(bias);
            args.sum = raw_or_null(sum);
            args.mean = mean.raw();
            args.rstd = rstd.raw();
            args.out = y.raw();
            layer_norm_fwd_kernel(args);
          });
  const Tensors outputs = sum.defined() ? Tensors{sum, y} : Tensors{y};
  if (!needs_record({&x, &addend, &weight, &bias})) return outputs;

  const bool of_rows = requires_grad(x) || requires_grad(addend);
  Saved saved_x(of_rows || requires_grad(weight) ? (sum.defined() ? sum : x) : Tensor()), saved_weight(of_rows ? weight : Tensor());
  auto backward = [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
    const Tensor &x = saved_x.get(op), &weight = saved_weight.get(op);
    const Tensor dsum = gradients.size() > 1 ? packed(gradients[0]) : Tensor();
    if (!gradients.back().defined()) return {dsum, dsum};
    const Tensor dy = contiguous(gradients.back());
    Tensor dx = of_rows ? empty_like(x) : Tensor();
    auto of_parameter = [&](bool on) { return on ? empty(Shape{args.columns}, args.weight_dtype) : Tensor(); };
    Tensor dweight = of_parameter(wanted[2]), dbias = of_parameter(wanted[3]), none;
    if (of_rows) enqueue_backward(backward_op, layer_norm_bwd_kernel, args, x, weight, dy, dsum, mean, rstd, dx);
    if (wanted[2]) enqueue_backward(backward_op, layer_norm_bwd_weight_kernel, args, x, none, dy, none, mean, rstd, dweight);
    if (wanted[3]) enqueue_backward(backward_op, layer_norm_bwd_bias_kernel, args, none, none, dy, none, mean, rstd, dbias);
    return {dx, dx, dweight, dbias};
  };
  record(op, {x, addend, weight, bias}, outputs, backward, AbsentGradient::undefined);
  return outputs;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const std::optional<Tensor>& input_weight, const std::optional<Tensor>& input_bias, double eps) {
  Tensor weight = packed(input_weight), bias = packed(input_bias);
  check_inputs("layerNorm", x, weight, bias);
  return norm("layerNorm", "layerNorm backward", contiguous(x), Tensor(), weight, bias, eps).back();
}

std::vector<Tensor> add_layer_norm(const Tensor& x, const Tensor& addend, const std::optional<Tensor>& input_weight,
                                   const std::optional<Tensor>& input_bias, double eps) {
  Tensor weight = packed(input_weight), bias = packed(input_bias);
  check_inputs("addLayerNorm", x, weight, bias);
  check_addend("addLayerNorm", x, addend);
  return norm("addLayerNorm", "addLayerNorm backward", contiguous(x), contiguous(addend), weight, bias, eps);
}

}  // namespace lorikeet
