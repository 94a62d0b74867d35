#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// e^x / Σ e^x along `dim`, in f32 (f64 for f64). Floats; x's shape and dtype. A row of -infinity alone gives NaN. Differentiable; keeps
/// the output.
Tensor softmax(const Tensor& x, int64_t dim);
/// x - logΣe^x along `dim`. As softmax.
Tensor log_softmax(const Tensor& x, int64_t dim);
/// logΣe^x along `dim`, which becomes 1 with keep_dim and goes away without; -infinity where there is nothing but -infinity.
/// Differentiable; keeps the input and the output.
Tensor log_sum_exp(const Tensor& x, int64_t dim, bool keep_dim);

enum class SoftmaxOp : int { softmax, log_softmax, log_sum_exp };

/// x, y, dy, dx [rows, columns] contiguous; for log_sum_exp y and dy [rows].
struct SoftmaxArgs {
  SoftmaxOp op;
  DType dtype;
  const void* x;   // forward; backward of log_sum_exp
  const void* y;   // backward: the output
  const void* dy;  // backward
  void* out;
  int64_t rows, columns;
};
inline constinit Kernel<SoftmaxArgs> softmax_fwd_kernel{"softmax"};
inline constinit Kernel<SoftmaxArgs> softmax_bwd_kernel{"softmax backward"};

}  // namespace lorikeet
