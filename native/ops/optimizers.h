#pragma once

#include <optional>
#include <vector>

#include "core/kernel.h"
#include "ops/mask.h"
#include "ops/tensor-list.h"

namespace lorikeet {

// One step over a list of parameters, in place, by the gradients that they collected. Parameters f32 (or f64, or bf16 and f16 with f32
// states), each with a gradient of its own dtype and shape; parameters and states are contiguous. `scale`, one f32 or f64 number,
// multiplies every gradient as it is read: the clip coefficient, without a pass of its own. Not recorded.

/// AdamW with decoupled weight decay, in PyTorch's order of operations:
///   p *= 1 - rate·decay;  m += (1 - beta1)·(g - m);  v = beta2·v + (1 - beta2)·g²;  p -= rate / (1 - beta1^t) · m / (sqrt(v) / sqrt(1 -
///   beta2^t) + eps)
/// `steps` holds t of each parameter, counted from 1; the bias corrections are computed in f64.
void adamw_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& first_moments, const std::vector<Tensor>& second_moments,
                const std::vector<double>& steps, double rate, double beta1, double beta2, double eps, double decay,
                const std::optional<Tensor>& scale);

/// `adamw_step` of the entries that a mask (see mask.h) owns of each parameter: the others keep their bits, whatever their gradient and the
/// decay. Moments are kept of the owned entries alone, [owned] in their order. Owned entries get the bits of `adamw_step`.
void masked_adamw_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& masks, const std::vector<Tensor>& first_moments,
                       const std::vector<Tensor>& second_moments, const std::vector<double>& steps, double rate, double beta1, double beta2,
                       double eps, double decay, const std::optional<Tensor>& scale);

/// SGD in PyTorch's order of operations: g += decay·p;  b = g at step 1, else momentum·b + (1 - dampening)·g;  p -= rate · (nesterov ? g +
/// momentum·b : b). Without momentum `buffers` is empty and p -= rate·g.
void sgd_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& buffers, const std::vector<double>& steps, double rate,
              double momentum, double dampening, double decay, bool nesterov, const std::optional<Tensor>& scale);

/// Lion ("Symbolic Discovery of Optimization Algorithms", Program 1) with decoupled decay:
///   p *= 1 - rate·decay;  p -= rate · sign(beta1·m + (1 - beta1)·g);  m = beta2·m + (1 - beta2)·g
void lion_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& moments, const std::vector<double>& steps, double rate,
               double beta1, double beta2, double decay, const std::optional<Tensor>& scale);

/// Elements that share one scale in the states of `adamw_8bit_step`.
inline constexpr int64_t kStateBlock = 256;

/// The 256 values that a byte of a state stands for, rising ("8-bit Optimizers via Block-wise Quantization", dynamic tree quantisation): a
/// sign if `is_signed`, then zeros that count a decimal exponent, then a linear fraction. An f32 tensor [256].
Tensor dynamic_map(bool is_signed);

/// `adamw_step` with both moments kept as bytes ("8-bit Optimizers via Block-wise Quantization"): a moment is scale · map[byte], with one
/// f32 scale, the largest magnitude, for each `kStateBlock` elements; the first moment by the signed map, the second by the unsigned one.
/// The update uses the moments before they are rounded again. Bytes are u8 of the parameter's shape, scales f32 [blocks], parameters not
/// f64.
void adamw_8bit_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& first_moments,
                     const std::vector<Tensor>& second_moments, const std::vector<Tensor>& first_scales,
                     const std::vector<Tensor>& second_scales, const std::vector<double>& steps, double rate, double beta1, double beta2,
                     double eps, double decay, const std::optional<Tensor>& scale);

/// Entries: data = parameter, gradient, m, v; scalars = rate / (1 - beta1^t), sqrt(1 - beta2^t).
struct AdamwArgs {
  ListArgs list;
  double scale, rate, beta1, beta2, eps, decay;
};
inline constinit Kernel<AdamwArgs> adamw_kernel{"adamwStep"};

/// One parameter with compact moments. step_size and root_correction are the scalars of `adamw_kernel`.
struct MaskedAdamwArgs {
  DType dtype;
  OwnedEntries mask;
  void* parameter;
  const void* gradient;
  void* first_moment;
  void* second_moment;
  double scale, rate, beta1, beta2, eps, decay, step_size, root_correction;
};
inline constinit Kernel<MaskedAdamwArgs> masked_adamw_kernel{"maskedAdamwStep"};

/// Entries: data = parameter, gradient, buffer or null; scalars = 1 in the first step of the buffer, else 0.
struct SgdArgs {
  ListArgs list;
  double scale, rate, momentum, dampening, decay;
  bool nesterov;
};
inline constinit Kernel<SgdArgs> sgd_kernel{"sgdStep"};

/// Entries: data = parameter, gradient, moment.
struct LionArgs {
  ListArgs list;
  double scale, rate, beta1, beta2, decay;
};
inline constinit Kernel<LionArgs> lion_kernel{"lionStep"};

/// Entries: data = parameter, gradient, bytes and bytes of m and v, scales of m and v; scalars as of `adamw_kernel`.
struct Adamw8bitArgs {
  ListArgs list;
  double scale, rate, beta1, beta2, eps, decay;
  const float* signed_map;
  const float* unsigned_map;
};
inline constinit Kernel<Adamw8bitArgs> adamw_8bit_kernel{"adamw8bitStep"};

}  // namespace lorikeet
