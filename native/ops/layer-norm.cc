#include "ops/layer-norm.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_parameter(const char* what, const Tensor& x, const Tensor& parameter) {
  if (!parameter.defined()) return;
  check_shape(parameter.rank() == 1 && parameter.size(0) == x.size(-1), "layerNorm: the ", what, " does not fit; got x ",
              to_string(x.shape()), " and ", what, " ", to_string(parameter.shape()), ", expected the size of x's last dimension");
  check_argument(parameter.dtype() == x.dtype() || (parameter.dtype() == DType::f32 && x.dtype() != DType::f64), "layerNorm: the ", what,
                 " must have x's dtype or be f32; got x ", name_of(x.dtype()), " and ", what, " ", name_of(parameter.dtype()));
}

void check_inputs(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_argument(is_float(x.dtype()), "layerNorm: needs a floating tensor; got ", name_of(x.dtype()), ", cast it first");
  check_shape(x.rank() >= 1, "layerNorm: needs at least one dimension; got a scalar");
  check(x.device() == Device::cpu, ErrorCode::device, "layerNorm: no cuda kernel in this build");
  check_parameter("weight", x, weight);
  check_parameter("bias", x, bias);
  check_argument(!weight.defined() || !bias.defined() || weight.dtype() == bias.dtype(), "layerNorm: weight and bias differ in dtype; got ",
                 weight.defined() ? name_of(weight.dtype()) : "", " and ", bias.defined() ? name_of(bias.dtype()) : "");
}

void* raw_or_null(const Tensor& x) { return x.defined() ? x.raw() : nullptr; }

/// Queues one backward kernel: fills what the gradient `out` needs.
void enqueue_backward(const Kernel<LayerNormArgs>& kernel, LayerNormArgs args, const Tensor& x, const Tensor& weight, const Tensor& dy,
                      const Tensor& mean, const Tensor& rstd, const Tensor& out) {
  enqueue("layerNorm backward", {x, weight, dy, mean, rstd}, {out}, [=, &kernel]() mutable {
    args.x = raw_or_null(x);
    args.weight = raw_or_null(weight);
    args.dy = dy.raw();
    args.mean = mean.raw();
    args.rstd = rstd.raw();
    args.out = out.raw();
    kernel(args);
  });
}

}  // namespace

Tensor layer_norm(const Tensor& input, const std::optional<Tensor>& input_weight, const std::optional<Tensor>& input_bias, double eps) {
  auto packed = [](const std::optional<Tensor>& p) { return p ? contiguous(*p) : Tensor(); };
  auto plain = [](const Tensor& p) { return p.defined() ? p.detach() : p; };
  Tensor weight = packed(input_weight), bias = packed(input_bias);
  check_inputs(input, weight, bias);
  Tensor x = contiguous(input);
  int64_t columns = x.size(-1), rows = columns == 0 ? 0 : x.numel() / columns;
  DType compute = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  DType weight_dtype = weight.defined() ? weight.dtype() : bias.defined() ? bias.dtype() : x.dtype();
  Tensor y = empty_like(x), mean = empty(Shape{rows}, compute), rstd = empty(Shape{rows}, compute);
  LayerNormArgs args{x.dtype(), weight_dtype, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, rows, columns, eps};
  enqueue("layerNorm", {x, weight, bias}, {y, mean, rstd},
          [args, x = x.detach(), weight = plain(weight), bias = plain(bias), y = y.detach(), mean, rstd]() mutable {
            args.x = x.raw();
            args.weight = raw_or_null(weight);
            args.bias = raw_or_null(bias);
            args.mean = mean.raw();
            args.rstd = rstd.raw();
            args.out = y.raw();
            layer_norm_fwd_kernel(args);
          });
  if (needs_record({&x, &weight, &bias})) {
    bool needs_x = requires_grad(x) || requires_grad(weight);
    Saved saved_x(needs_x ? x : Tensor()), saved_weight(requires_grad(x) ? weight : Tensor());
    record("layerNorm", {x, weight, bias}, {y}, [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
      const Tensor &x = saved_x.get("layerNorm"), &weight = saved_weight.get("layerNorm");
      Tensor dy = contiguous(gradients[0]);
      Tensors out(3);
      for (int i = 0; i < 3; ++i) {
        if (wanted[i]) out[i] = i == 0 ? empty_like(x) : empty(Shape{args.columns}, args.weight_dtype);
      }
      if (wanted[0]) enqueue_backward(layer_norm_bwd_kernel, args, x, weight, dy, mean, rstd, out[0]);
      if (wanted[1]) enqueue_backward(layer_norm_bwd_weight_kernel, args, x, Tensor(), dy, mean, rstd, out[1]);
      if (wanted[2]) enqueue_backward(layer_norm_bwd_bias_kernel, args, Tensor(), Tensor(), dy, mean, rstd, out[2]);
      return out;
    });
  }
  return y;
}

}  // namespace lorikeet
