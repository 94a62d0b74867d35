#pragma once

#include <optional>
#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// Cross-correlation of images x [B, C, H, W] with weight [O, C / groups, KH, KW]:
///   y[b, o, r, q] = bias[o] + Σ_{c, i, j} weight[o, c, i, j] · x[b, c, r · stride - top + i · dilation, q · stride - left + j · dilation]
/// where x is 0 outside, the sum over the channels of o's group. bias [O] or nothing. stride and dilation are [rows, columns], padding is
/// [top, bottom, left, right]. One floating dtype; 16-bit types are summed in f32. y is [B, O, R, Q] with
/// R = (H + top + bottom - dilation · (KH - 1) - 1) / stride + 1, at least 1, and Q alike.
/// Differentiable in x, weight and bias; x is saved only where the weight wants a gradient. Elements of y and dx are one chain of
/// multiply-adds each (dx of few input channels: one for each tap); dw sums its images and stretches of kConvStretch positions in order.
Tensor conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const std::vector<int64_t>& stride,
              const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups);

/// Positions whose products are summed before they are added to a weight gradient.
inline constexpr int64_t kConvStretch = 2048;

/// One side of an image: sizes in and out, and how a kernel walks over it. `pad` is what comes before the first element.
struct ConvAxis {
  int64_t in, out, kernel, stride, pad, dilation;
};

/// Contiguous x [batch, groups, inputs, H, W], weight [groups, outputs, inputs, KH, KW], y and dy [batch, groups, outputs, R, Q].
struct ConvArgs {
  DType dtype;
  int64_t batch, groups, inputs, outputs;  // channels of one group
  ConvAxis rows, columns;
  const void* x;       // forward, weight gradient
  const void* weight;  // forward, input gradient
  const void* bias;    // forward: [groups, outputs] or null
  const void* dy;      // gradients
  void* out;           // y, dx or dw
};
inline constinit Kernel<ConvArgs> conv_fwd_kernel{"conv2d"};
inline constinit Kernel<ConvArgs> conv_bwd_input_kernel{"conv2d backward input"};
inline constinit Kernel<ConvArgs> conv_bwd_weight_kernel{"conv2d backward weight"};

/// The same where every group has one input channel.
inline constinit Kernel<ConvArgs> depthwise_conv_fwd_kernel{"conv2d depthwise"};
inline constinit Kernel<ConvArgs> depthwise_conv_bwd_input_kernel{"conv2d depthwise backward input"};
inline constinit Kernel<ConvArgs> depthwise_conv_bwd_weight_kernel{"conv2d depthwise backward weight"};

}  // namespace lorikeet
