#pragma once

#include <optional>
#include <vector>

#include "core/kernel.h"
#include "ops/tensor-list.h"

namespace lorikeet {

// One step over a list of parameters, in place. Parameters f32 (or f64, or bf16 and f16 with f32 states); gradients have the parameter's
// dtype and shape; parameters and states are contiguous. `scale`, one f32 or f64 number, multiplies every gradient as it is read: the clip
// coefficient, without a pass of its own. Not recorded.

/// AdamW with decoupled weight decay, in PyTorch's order of operations:
///   p *= 1 - rate·decay;  m += (1 - beta1)·(g - m);  v = beta2·v + (1 - beta2)·g²;  p -= rate / (1 - beta1^t) · m / (sqrt(v) / sqrt(1 -
///   beta2^t) + eps)
/// `steps` holds t of each parameter, counted from 1; the bias corrections are computed in f64.
void adamw_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& gradients, const std::vector<Tensor>& first_moments,
                const std::vector<Tensor>& second_moments, const std::vector<double>& steps, double rate, double beta1, double beta2,
                double eps, double decay, const std::optional<Tensor>& scale);

/// SGD in PyTorch's order of operations: g += decay·p;  b = g at step 1, else momentum·b + (1 - dampening)·g;  p -= rate · (nesterov ? g +
/// momentum·b : b). Without momentum `buffers` is empty and p -= rate·g.
void sgd_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& gradients, const std::vector<Tensor>& buffers,
              const std::vector<double>& steps, double rate, double momentum, double dampening, double decay, bool nesterov,
              const std::optional<Tensor>& scale);

/// Entries: data = parameter, gradient, m, v; scalars = rate / (1 - beta1^t), sqrt(1 - beta2^t).
struct AdamwArgs {
  ListArgs list;
  double scale, rate, beta1, beta2, eps, decay;
};
inline constinit Kernel<AdamwArgs> adamw_kernel{"adamwStep"};

/// Entries: data = parameter, gradient, buffer or null; scalars = 1 in the first step of the buffer, else 0.
struct SgdArgs {
  ListArgs list;
  double scale, rate, momentum, dampening, decay;
  bool nesterov;
};
inline constinit Kernel<SgdArgs> sgd_kernel{"sgdStep"};

}  // namespace lorikeet
