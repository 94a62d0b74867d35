#include "ops/rms-norm.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/addend.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_inputs(const char* op, const Tensor& x, const Tensor& weight) {
  check_argument(is_float(x.dtype()), op, ": needs a floating tensor; got ", name_of(x.dtype()), ", cast it first");
  check_shape(x.rank() >= 1 && weight.rank() == 1 && weight.size(0) == x.size(-1), op, ": the weight does not fit; got x ",
              to_string(x.shape()), " and weight ", to_string(weight.shape()), ", expected a weight of the size of x's last dimension");
  check_argument(weight.dtype() == x.dtype() || (weight.dtype() == DType::f32 && x.dtype() != DType::f64), op,
                 ": the weight must have x's dtype or be f32; got x ", name_of(x.dtype()), " and weight ", name_of(weight.dtype()));
  check(x.device() == Device::cpu && weight.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
}

void* raw_or_null(const Tensor& x) { return x.defined() ? x.raw() : nullptr; }
Tensor plain(const Tensor& x) { return x.defined() ? x.detach() : x; }

/// Fills `y` and the reciprocal deviations `rstd` of the rows of x, or of x + addend, which then goes to `sum`.
void normalise(const char* op, RmsNormArgs args, const Tensor& x, const Tensor& addend, const Tensor& weight, const Tensor& sum,
               const Tensor& y, const Tensor& rstd) {
  enqueue(op, {x, weight, addend}, {y, sum, rstd},
          [args, x = x.detach(), addend = plain(addend), weight = weight.detach(), sum = plain(sum), y = y.detach(), rstd]() mutable {
            args.x = x.raw();
            args.addend = raw_or_null(addend);
            args.weight = weight.raw();
            args.sum = raw_or_null(sum);
            args.rstd = rstd.raw();
            args.out = y.raw();
            rms_norm_fwd_kernel(args);
          });
}

/// Queues one backward kernel: fills what the gradient `out` needs.
void enqueue_backward(const char* op, const Kernel<RmsNormArgs>& kernel, RmsNormArgs args, const Tensor& x, const Tensor& weight,
                      const Tensor& dy, const Tensor& dsum, const Tensor& rstd, const Tensor& out) {
  enqueue(op, {x, weight, dy, rstd, dsum}, {out}, [=, &kernel]() mutable {
    args.x = x.raw();
    args.weight = raw_or_null(weight);
    args.dy = dy.raw();
    args.dsum = raw_or_null(dsum);
    args.rstd = rstd.raw();
    args.out = out.raw();
    kernel(args);
  });
}

/// The norm of x, or the sum x + addend and its norm: the last output is the norm.
Tensors norm(const char* op, const char* backward_op, const Tensor& x, const Tensor& addend, const Tensor& weight, double eps) {
  RmsNormArgs args{};
  args.dtype = x.dtype();
  args.weight_dtype = weight.dtype();
  args.columns = x.size(-1);
  args.rows = args.columns == 0 ? 0 : x.numel() / args.columns;
  args.eps = eps;
  const DType compute = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Tensor y = empty_like(x), rstd = empty(Shape{args.rows}, compute), sum = addend.defined() ? empty_like(x) : Tensor();
  normalise(op, args, x, addend, weight, sum, y, rstd);
  const Tensors outputs = sum.defined() ? Tensors{sum, y} : Tensors{y};
  if (!needs_record({&x, &addend, &weight})) return outputs;

  const bool of_rows = requires_grad(x) || requires_grad(addend);
  Saved saved_x(sum.defined() ? sum : x), saved_weight(of_rows ? weight : Tensor());
  auto backward = [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
    const Tensor &x = saved_x.get(op), &weight = saved_weight.get(op);
    const Tensor dsum = gradients.size() > 1 ? gradients[0] : Tensor();
    if (!gradients.back().defined()) return {dsum, dsum};
    Tensor dy = contiguous(gradients.back()), dx, dweight;
    if (of_rows) {
      dx = empty_like(x);
      enqueue_backward(backward_op, rms_norm_bwd_kernel, args, x, weight, dy, dsum.defined() ? contiguous(dsum) : dsum, rstd, dx);
    }
    if (wanted[2]) {
      dweight = empty(Shape{args.columns}, args.weight_dtype);
      enqueue_backward(backward_op, rms_norm_bwd_weight_kernel, args, x, Tensor(), dy, Tensor(), rstd, dweight);
    }
    return {dx, dx, dweight};
  };
  record(op, {x, addend, weight}, outputs, backward, AbsentGradient::undefined);
  if (of_rows) {
    offer_recompute(y, [=, rows = Shape{args.rows}] {
      const Tensor& x = saved_x.get(op);
      Tensor again = empty_like(x);
      normalise("rmsNorm", args, x, Tensor(), saved_weight.get(op), Tensor(), again, empty(rows, compute));
      return again;
    });
  }
  return outputs;
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_inputs("rmsNorm", x, weight);
  return norm("rmsNorm", "rmsNorm backward", contiguous(x), Tensor(), contiguous(weight), eps).back();
}

std::vector<Tensor> add_rms_norm(const Tensor& x, const Tensor& addend, const Tensor& weight, double eps) {
  check_inputs("addRmsNorm", x, weight);
  check_addend("addRmsNorm", x, addend);
  return norm("addRmsNorm", "addRmsNorm backward", contiguous(x), contiguous(addend), contiguous(weight), eps);
}

}  // namespace lorikeet
