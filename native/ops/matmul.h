#pragma once

#include "core/kernel.h"
#include "core/shape.h"
#include "core/tensor.h"

namespace lorikeet {

/// y[.., m, n] = Σ_k a[.., m, k] · b[.., k, n]; the leading dimensions broadcast. a and b have rank 2 or more and one floating dtype, which
/// y has too. Views of any strides are read in place, transposed ones as well. 16-bit types are summed in f32. Differentiable in both.
Tensor matmul(const Tensor& a, const Tensor& b);

/// The same product without a place on the tape, its result in `out` (for gradients of another dtype than the operands).
Tensor matmul_raw(const char* op, const Tensor& a, const Tensor& b, DType out);

/// A view of x with its last two dimensions exchanged, without a place on the tape.
Tensor transposed(const Tensor& x);

/// x seen as a matrix [rows, last dimension] with contiguous rows one stride apart, without a place on the tape: a view where the strides
/// allow it, else a copy.
Tensor as_matrix(const Tensor& x);

/// Strides in elements; y is contiguous. Batch dimensions run over all sizes in `batch`.
struct MatmulArgs {
  const void* a;
  const void* b;
  void* y;
  DType dtype, out_dtype;
  int64_t m, k, n;
  int64_t a_row, a_column, b_row, b_column;
  int batch_rank;
  int64_t batch[kMaxRank], a_batch[kMaxRank], b_batch[kMaxRank];
};
inline constinit Kernel<MatmulArgs> matmul_kernel{"matmul"};

}  // namespace lorikeet
