#pragma once

#include <cstdint>

namespace lorikeet {

// Dense LAPACK on row-major matrices, single-threaded (our pool is the only pool). Callable from any thread; calls are serialised, since OpenBLAS built
// without threads keeps its work memory in one unguarded table.

/// Reduced QR of one matrix by Householder reflections: x [m, n] -> q [m, k], r [k, n], k = min(m, n). All contiguous and distinct; x is overwritten.
/// The diagonal of r keeps the signs of the reflections. m and n at least 1.
void householder_qr(double* x, int64_t m, int64_t n, double* q, double* r);
void householder_qr(float* x, int64_t m, int64_t n, float* q, float* r);

}  // namespace lorikeet
