#pragma once

#include <optional>

#include "core/kernel.h"
#include "ops/low-rank-product.h"

namespace lorikeet {

/// Cross-entropy of next-token predictions straight from hidden states, without ever holding the logits of more than a chunk of rows:
///   loss[n] = logsumexp(z[n]) - z[n, targets[n]],   z[n] = logit_scale · (W hidden[n] + bias)
/// hidden [.., D]; head W [V, D], packed (frozen) or dense; bias [V] or absent; targets [..] i64 or i32. The result has targets' shape, in
/// f32 (f64 for f64 hidden states); logits, logsumexp and the difference stay in that type. Rows whose target is ignore_index give 0 and
/// cost nothing; other targets outside [0, V) fail when the work runs.
///
/// Differentiable in hidden, W and bias. With a frozen head the gradient of hidden is made in the forward chunks, and backward only scales
/// its rows; a trainable head or bias makes backward compute the chunks again. Gradients of W and bias sum the valid rows in order.
Tensor cross_entropy(const Tensor& hidden, const BaseWeight& head, const std::optional<Tensor>& bias, const Tensor& targets,
                     int64_t ignore_index, double logit_scale);

/// The same from logits [.., V]. Differentiable in the logits, which backward keeps.
Tensor logits_cross_entropy(const Tensor& logits, const Tensor& targets, int64_t ignore_index, double logit_scale);

/// Rows of logits [rows, columns] of `dtype`: losses and / or gradients in logits, each where its pointer is given. weights, losses: f32
/// (f64 for f64).
struct LossRowsArgs {
  DType dtype;
  const void* logits;
  int64_t logits_row_stride;
  int64_t rows, columns;
  const int64_t* targets;
  int64_t ignore_index;
  double scale;
  void* losses;
  const void* weights;  // [rows] factors of the gradients, or null for 1
  void* gradients;      // [rows, columns], may lie in the logits' own rows
  DType gradient_dtype;
  int64_t gradient_row_stride;
};
inline constinit Kernel<LossRowsArgs> loss_rows_kernel{"crossEntropy"};

/// out[r, c] = x[r, c] · weights[r]; weights f32 (f64 for f64).
struct ScaleRowsArgs {
  DType dtype;
  const void* x;
  const void* weights;
  void* out;
  int64_t rows, columns;
};
inline constinit Kernel<ScaleRowsArgs> scale_rows_kernel{"scaleRows"};

/// sums[c] += Σ_r x[r, c] with rows in order; f32 or f64.
struct AddRowsArgs {
  DType dtype;
  const void* x;
  void* sums;
  int64_t rows, columns;
};
inline constinit Kernel<AddRowsArgs> add_rows_kernel{"addRows"};

}  // namespace lorikeet
