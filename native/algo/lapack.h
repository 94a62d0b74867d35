#pragma once

#include <cstdint>

namespace lorikeet {

// Dense LAPACK on row-major matrices, single-threaded (our pool is the only pool). Callable from any thread; calls are serialised, since
// OpenBLAS built without threads keeps its work memory in one unguarded table.

/// Reduced QR of one matrix by Householder reflections: x [m, n] -> q [m, k], r [k, n], k = min(m, n). All contiguous and distinct; x is
/// overwritten. The diagonal of r keeps the signs of the reflections. m and n at least 1.
void householder_qr(double* x, int64_t m, int64_t n, double* q, double* r);
void householder_qr(float* x, int64_t m, int64_t n, float* q, float* r);

/// Reduced SVD of one matrix by divide and conquer: x [m, n] -> u [m, k], s [k] falling, vt [k, n], k = min(m, n). All contiguous and
/// distinct; x is overwritten. m and n at least 1. False: it did not converge (LAPACK's answer to values that are not finite).
[[nodiscard]] bool reduced_svd(double* x, int64_t m, int64_t n, double* u, double* s, double* vt);
[[nodiscard]] bool reduced_svd(float* x, int64_t m, int64_t n, float* u, float* s, float* vt);

}  // namespace lorikeet
