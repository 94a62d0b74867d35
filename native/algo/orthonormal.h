#pragma once

#include <cstdint>

namespace lorikeet {

/// Overwrites y [rows, n], rows >= n, with orthonormal columns that span its own; where it has fewer independent columns than n, the rest
/// is filled up. With `r` [n, n] also the upper triangle of y = q r. False, with y and r undefined, when y holds a value that is not
/// finite.
///
/// Cholesky QR with a Gram matrix in double, repeated while the factor is too badly conditioned for one pass ("Shifted Cholesky QR for
/// computing the QR factorization of ill-conditioned matrices"); Householder reflections where that does not help. Rows are summed in
/// slices that depend on the shape alone, so the bits do not depend on the number of threads.
[[nodiscard]] bool orthonormalize(float* y, int64_t rows, int64_t n, double* r);
[[nodiscard]] bool orthonormalize(double* y, int64_t rows, int64_t n, double* r);

}  // namespace lorikeet
