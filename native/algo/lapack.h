#pragma once

#include <cstdint>

namespace lorikeet {

// Dense LAPACK on row-major matrices. Each call runs on the calling thread alone (our pool is the only pool); calls on several threads at
// once are fine. All matrices are contiguous and distinct, with sizes of at least 1.

/// Reduced QR of one matrix by Householder reflections: x [m, n] -> q [m, k], r [k, n], k = min(m, n). x is overwritten. The diagonal of r
/// keeps the signs of the reflections.
void householder_qr(double* x, int64_t m, int64_t n, double* q, double* r);
void householder_qr(float* x, int64_t m, int64_t n, float* q, float* r);

/// Reduced SVD of one matrix by divide and conquer: x [m, n] -> u [m, k], s [k] falling, vt [k, n], k = min(m, n). x is overwritten.
/// False: it did not converge (LAPACK's answer to values that are not finite).
[[nodiscard]] bool reduced_svd(double* x, int64_t m, int64_t n, double* u, double* s, double* vt);
[[nodiscard]] bool reduced_svd(float* x, int64_t m, int64_t n, float* u, float* s, float* vt);

/// Eigenvalues [n], rising, of a symmetric x [n, n], whose lower triangle is read. x is overwritten with the eigenvectors, one in each row.
/// False: it did not converge.
[[nodiscard]] bool symmetric_eigen(double* x, int64_t n, double* values);
[[nodiscard]] bool symmetric_eigen(float* x, int64_t n, float* values);

/// Overwrites a symmetric positive definite x [n, n], whose lower triangle is read, with lower L, L L^T = x; what is above stays. -1, or
/// the row of the first pivot that is not positive.
[[nodiscard]] int64_t cholesky(double* x, int64_t n);
[[nodiscard]] int64_t cholesky(float* x, int64_t n);

/// Overwrites b [n, k] with the solution of a y = b (a^T y = b when `transpose`) for a triangular a [n, n], of which only that half is
/// read.
void triangular_solve(const double* a, int64_t n, bool upper, bool transpose, double* b, int64_t k);
void triangular_solve(const float* a, int64_t n, bool upper, bool transpose, float* b, int64_t k);

/// Solves a y = b by LU with partial pivoting: a [n, n] is overwritten; b comes and goes transposed, [k, n]. -1, or the row of the first
/// pivot that is zero.
[[nodiscard]] int64_t lu_solve(double* a, int64_t n, double* b_transposed, int64_t k);
[[nodiscard]] int64_t lu_solve(float* a, int64_t n, float* b_transposed, int64_t k);

// Parts of a Cholesky QR, for lower l [n, n].

/// The lower triangle of y^T y, y [rows, n]; what is above stays.
void gram(const double* y, int64_t rows, int64_t n, double* out);
/// y [rows, n] := y l^-T.
void divide_rows(double* y, int64_t rows, const double* l, int64_t n);
/// r [n, n] := l^T r.
void multiply_transposed(double* r, const double* l, int64_t n);
/// 1 / (|l| |l^-1|) in the 1-norm, estimated from below.
double reciprocal_condition(const double* l, int64_t n);

}  // namespace lorikeet
