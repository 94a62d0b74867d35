#include "ops/conv.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/reduce.h"

namespace lorikeet {
namespace {

void check_pair(const char* what, const std::vector<int64_t>& values) {
  check_argument(values.size() == 2 && values[0] > 0 && values[1] > 0, "conv2d: ", what, " must be two positive integers");
}

void check_tensors(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups) {
  check_argument(is_float(x.dtype()) && weight.dtype() == x.dtype() && (!bias.defined() || bias.dtype() == x.dtype()),
                 "conv2d: dtypes do not fit; got x ", name_of(x.dtype()), " and weight ", name_of(weight.dtype()),
                 bias.defined() ? " and bias " : "", bias.defined() ? name_of(bias.dtype()) : "", ", expected one floating dtype");
  check_shape(x.rank() == 4 && weight.rank() == 4, "conv2d: needs x [B, C, H, W] and weight [O, C / groups, KH, KW]; got x ",
              to_string(x.shape()), " and weight ", to_string(weight.shape()));
  check_argument(groups > 0 && weight.size(0) > 0 && weight.size(0) % groups == 0 && x.size(1) % groups == 0,
                 "conv2d: groups must divide the channels; got groups ", groups, " for x ", to_string(x.shape()), " and weight ",
                 to_string(weight.shape()));
  check_shape(weight.numel() > 0 && weight.size(1) * groups == x.size(1), "conv2d: the weight does not fit; got x ", to_string(x.shape()),
              " and weight ", to_string(weight.shape()), " with groups ", groups);
  check_shape(!bias.defined() || bias.shape() == Shape{weight.size(0)}, "conv2d: the bias does not fit; got ",
              bias.defined() ? to_string(bias.shape()) : "", ", expected [", weight.size(0), "]");
  check(x.device() == Device::cpu, ErrorCode::device, "conv2d: no cuda kernel in this build");
}

ConvAxis axis_of(const char* side, int64_t in, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation) {
  // Divided, for a product may overflow.
  const int64_t room = in + before + after, taps = kernel - 1;
  check_shape(room > 0 && (taps == 0 || dilation <= (room - 1) / taps), "conv2d: the kernel is larger than the padded input; got ", side,
              " ", in, " with padding ", before, " + ", after, " and kernel ", kernel, " with dilation ", dilation);
  return {in, (room - 1 - dilation * taps) / stride + 1, kernel, stride, before, dilation};
}

bool is_depthwise(const ConvArgs& args) { return args.inputs == 1 && args.groups > 1; }

void run(const Kernel<ConvArgs>& dense, const Kernel<ConvArgs>& depthwise, const ConvArgs& args) {
  (is_depthwise(args) ? depthwise : dense)(args);
}

void enqueue_input_gradient(const ConvArgs& shapes, const Tensor& weight, const Tensor& dy, const Tensor& dx) {
  enqueue("conv2d backward", {weight, dy}, {dx}, [=, args = shapes]() mutable {
    args.weight = weight.raw();
    args.dy = dy.raw();
    args.out = dx.raw();
    run(conv_bwd_input_kernel, depthwise_conv_bwd_input_kernel, args);
  });
}

void enqueue_weight_gradient(const ConvArgs& shapes, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  enqueue("conv2d backward", {x, dy}, {dw}, [=, args = shapes]() mutable {
    args.x = x.raw();
    args.dy = dy.raw();
    args.out = dw.raw();
    run(conv_bwd_weight_kernel, depthwise_conv_bwd_weight_kernel, args);
  });
}

}  // namespace

Tensor conv2d(const Tensor& input_x, const Tensor& input_weight, const std::optional<Tensor>& input_bias,
              const std::vector<int64_t>& stride, const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation,
              int64_t groups) {
  Tensor bias = input_bias ? contiguous(*input_bias) : Tensor();
  check_tensors(input_x, input_weight, bias, groups);
  check_pair("stride", stride);
  check_pair("dilation", dilation);
  bool padded = padding.size() == 4;
  for (int64_t side : padding) padded = padded && side >= 0;
  check_argument(padded, "conv2d: padding must be four integers of at least 0: top, bottom, left, right");

  Tensor x = contiguous(input_x), weight = contiguous(input_weight);
  ConvArgs args{};
  args.dtype = x.dtype();
  args.batch = x.size(0);
  args.groups = groups;
  args.inputs = weight.size(1);
  args.outputs = weight.size(0) / groups;
  args.rows = axis_of("height", x.size(2), weight.size(2), stride[0], padding[0], padding[1], dilation[0]);
  args.columns = axis_of("width", x.size(3), weight.size(3), stride[1], padding[2], padding[3], dilation[1]);

  Tensor y = empty({x.size(0), weight.size(0), args.rows.out, args.columns.out}, x.dtype());
  Tensor plain_bias = bias.defined() ? bias.detach() : bias;
  enqueue("conv2d", {x, weight, bias}, {y}, [args, x = x.detach(), weight = weight.detach(), bias = plain_bias, y = y.detach()]() mutable {
    args.x = x.raw();
    args.weight = weight.raw();
    args.bias = bias.defined() ? bias.raw() : nullptr;
    args.out = y.raw();
    run(conv_fwd_kernel, depthwise_conv_fwd_kernel, args);
  });
  if (!needs_record({&x, &weight, &bias})) return y;
  Saved saved_x(requires_grad(weight) ? x : Tensor()), saved_weight(requires_grad(x) ? weight : Tensor());
  record("conv2d", {x, weight, bias}, {y},
         [=, x_shape = x.shape(), weight_shape = weight.shape()](const Tensors& gradients, const Wanted& wanted) -> Tensors {
           Tensor dy = contiguous(gradients[0]);
           Tensors out(3);
           if (wanted[0]) {
             out[0] = empty(x_shape, args.dtype);
             enqueue_input_gradient(args, saved_weight.get("conv2d"), dy, out[0]);
           }
           if (wanted[1]) {
             out[1] = empty(weight_shape, args.dtype);
             enqueue_weight_gradient(args, saved_x.get("conv2d"), dy, out[1]);
           }
           if (wanted[2]) out[2] = reduce(ReduceOp::sum, dy, {0, 2, 3}, false);
           return out;
         });
  return y;
}

}  // namespace lorikeet
