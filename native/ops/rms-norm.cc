#include "ops/rms-norm.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_inputs(const Tensor& x, const Tensor& weight) {
  check_argument(is_float(x.dtype()), "rmsNorm: needs a floating tensor; got ", name_of(x.dtype()), ", cast it first");
  check_shape(x.rank() >= 1 && weight.rank() == 1 && weight.size(0) == x.size(-1), "rmsNorm: the weight does not fit; got x ",
              to_string(x.shape()), " and weight ", to_string(weight.shape()), ", expected a weight of the size of x's last dimension");
  check_argument(weight.dtype() == x.dtype() || (weight.dtype() == DType::f32 && x.dtype() != DType::f64),
                 "rmsNorm: the weight must have x's dtype or be f32; got x ", name_of(x.dtype()), " and weight ", name_of(weight.dtype()));
  check(x.device() == Device::cpu && weight.device() == Device::cpu, ErrorCode::device, "rmsNorm: no cuda kernel in this build");
}

/// Fills `y` and the reciprocal deviations `rstd` of the rows.
void normalise(RmsNormArgs args, const Tensor& x, const Tensor& weight, const Tensor& y, const Tensor& rstd) {
  enqueue("rmsNorm", {x, weight}, {y, rstd}, [args, x = x.detach(), weight = weight.detach(), y = y.detach(), rstd]() mutable {
    args.x = x.raw();
    args.weight = weight.raw();
    args.rstd = rstd.raw();
    args.out = y.raw();
    rms_norm_fwd_kernel(args);
  });
}

}  // namespace

Tensor rms_norm(const Tensor& input, const Tensor& input_weight, double eps) {
  check_inputs(input, input_weight);
  Tensor x = contiguous(input), weight = contiguous(input_weight);
  int64_t columns = x.size(-1), rows = columns == 0 ? 0 : x.numel() / columns;
  DType compute = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Tensor y = empty_like(x), rstd = empty(Shape{rows}, compute);
  RmsNormArgs args{x.dtype(), weight.dtype(), nullptr, nullptr, nullptr, nullptr, nullptr, rows, columns, eps};
  normalise(args, x, weight, y, rstd);
  if (needs_record({&x, &weight})) {
    Saved saved_x(x), saved_weight(requires_grad(x) ? weight : Tensor());
    record("rmsNorm", {x, weight}, {y}, [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
      const Tensor &x = saved_x.get("rmsNorm"), &weight = saved_weight.get("rmsNorm");
      Tensor dy = contiguous(gradients[0]), dx, dweight;
      if (wanted[0]) {
        dx = empty_like(x);
        enqueue("rmsNorm backward", {x, weight, dy, rstd}, {dx}, [=]() mutable {
          args.x = x.raw();
          args.weight = weight.raw();
          args.dy = dy.raw();
          args.rstd = rstd.raw();
          args.out = dx.raw();
          rms_norm_bwd_kernel(args);
        });
      }
      if (wanted[1]) {
        dweight = empty(Shape{args.columns}, args.weight_dtype);
        enqueue("rmsNorm backward", {x, dy, rstd}, {dweight}, [=]() mutable {
          args.x = x.raw();
          args.dy = dy.raw();
          args.rstd = rstd.raw();
          args.out = dweight.raw();
          rms_norm_bwd_weight_kernel(args);
        });
      }
      return {dx, dweight};
    });
    if (requires_grad(x)) {
      offer_recompute(y, [=, rows = Shape{rows}] {
        Tensor again = empty_like(saved_x.get("rmsNorm"));
        normalise(args, saved_x.get("rmsNorm"), saved_weight.get("rmsNorm"), again, empty(rows, rstd.dtype()));
        return again;
      });
    }
  }
  return y;
}

}  // namespace lorikeet
