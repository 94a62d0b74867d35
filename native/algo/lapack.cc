#include "algo/lapack.h"

#include <algorithm>
#include <limits>

#include "algo/buffer.h"
#include "core/error.h"

// Fortran routines: column-major, every argument by pointer.
extern "C" {
void sgelqf_(const int* m, const int* n, float* a, const int* lda, float* tau, float* work, const int* lwork, int* info);
void dgelqf_(const int* m, const int* n, double* a, const int* lda, double* tau, double* work, const int* lwork, int* info);
void sorglq_(const int* m, const int* n, const int* k, float* a, const int* lda, const float* tau, float* work, const int* lwork,
             int* info);
void dorglq_(const int* m, const int* n, const int* k, double* a, const int* lda, const double* tau, double* work, const int* lwork,
             int* info);
void sgesdd_(const char* jobz, const int* m, const int* n, float* a, const int* lda, float* s, float* u, const int* ldu, float* vt,
             const int* ldvt, float* work, const int* lwork, int* iwork, int* info);
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u, const int* ldu, double* vt,
             const int* ldvt, double* work, const int* lwork, int* iwork, int* info);
void ssyevd_(const char* jobz, const char* uplo, const int* n, float* a, const int* lda, float* w, float* work, const int* lwork,
             int* iwork, const int* liwork, int* info);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work, const int* lwork,
             int* iwork, const int* liwork, int* info);
void spotrf_(const char* uplo, const int* n, float* a, const int* lda, int* info);
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void strsm_(const char* side, const char* uplo, const char* transa, const char* diag, const int* m, const int* n, const float* alpha,
            const float* a, const int* lda, float* b, const int* ldb);
void dtrsm_(const char* side, const char* uplo, const char* transa, const char* diag, const int* m, const int* n, const double* alpha,
            const double* a, const int* lda, double* b, const int* ldb);
void sgetrf_(const int* m, const int* n, float* a, const int* lda, int* pivots, int* info);
void dgetrf_(const int* m, const int* n, double* a, const int* lda, int* pivots, int* info);
void sgetrs_(const char* trans, const int* n, const int* nrhs, const float* a, const int* lda, const int* pivots, float* b, const int* ldb,
             int* info);
void dgetrs_(const char* trans, const int* n, const int* nrhs, const double* a, const int* lda, const int* pivots, double* b,
             const int* ldb, int* info);
void dsyrk_(const char* uplo, const char* trans, const int* n, const int* k, const double* alpha, const double* a, const int* lda,
            const double* beta, double* c, const int* ldc);
void dtrmm_(const char* side, const char* uplo, const char* transa, const char* diag, const int* m, const int* n, const double* alpha,
            const double* a, const int* lda, double* b, const int* ldb);
void dtrcon_(const char* norm, const char* uplo, const char* diag, const int* n, const double* a, const int* lda, double* rcond,
             double* work, int* iwork, int* info);
}

namespace lorikeet {
namespace {

int to_int(const char* routine, int64_t size) {
  check_shape(size <= std::numeric_limits<int>::max(), routine, ": a dimension is too large for LAPACK; got ", size);
  return static_cast<int>(size);
}

void check_info(const char* routine, int info) { check(info >= 0, ErrorCode::internal, routine, ": LAPACK refused argument ", -info); }

/// Asks `routine(work, lwork, info)` for its best work size, then runs it with that.
template <class T, class Routine>
void with_workspace(const char* name, Routine routine) {
  T best = 0;
  int query = -1, info = 0;
  routine(&best, &query, &info);
  check_info(name, info);
  int size = std::max(1, static_cast<int>(best));
  Buffer<T> work(size);
  routine(work.data(), &size, &info);
  check_info(name, info);
}

/// Row-major x is column-major x^T. From x^T = L Q' follows x = Q'^T L^T, so the LQ routines give Q and R in row-major order without a
/// transposition.
template <class T, class Factor, class Generate>
void qr(T* x, int64_t rows, int64_t columns, T* q, T* r, Factor factor, Generate generate) {
  int m = to_int("qr", rows), n = to_int("qr", columns), k = std::min(m, n);
  Buffer<T> tau(k);
  with_workspace<T>("qr", [&](T* work, const int* size, int* info) { factor(&n, &m, x, &n, tau.data(), work, size, info); });
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < columns; ++j) r[i * columns + j] = j < i ? T(0) : x[i * columns + j];
  }
  with_workspace<T>("qr", [&](T* work, const int* size, int* info) { generate(&k, &m, &k, x, &n, tau.data(), work, size, info); });
  for (int64_t i = 0; i < rows; ++i) std::copy(x + i * columns, x + i * columns + k, q + i * k);
}

/// Row-major x is column-major x^T = V S U^T: the routine's "U" holds our V^T in row-major order, and its "V^T" our U.
template <class T, class Routine>
bool svd(T* x, int64_t rows, int64_t columns, T* u, T* s, T* vt, Routine routine) {
  int m = to_int("svd", rows), n = to_int("svd", columns), k = std::min(m, n), code = 0;
  Buffer<int> integers(8 * static_cast<int64_t>(k));
  with_workspace<T>("svd", [&](T* work, const int* size, int* info) {
    routine("S", &n, &m, x, &n, s, vt, &n, u, &k, work, size, integers.data(), &code);
    *info = std::min(code, 0);
  });
  return code == 0;
}

/// Column-major eigenvectors in columns are row-major ones in rows; the lower triangle is the upper one of column-major order.
template <class T, class Routine>
bool eigen(T* x, int64_t size, T* values, Routine routine) {
  int n = to_int("symmetricEigen", size), query = -1, integer_count = 0, code = 0;
  T best = 0;
  routine("V", "U", &n, x, &n, values, &best, &query, &integer_count, &query, &code);
  check_info("symmetricEigen", code);
  int count = std::max(1, static_cast<int>(best));
  Buffer<T> work(count);
  Buffer<int> integers(integer_count);
  routine("V", "U", &n, x, &n, values, work.data(), &count, integers.data(), &integer_count, &code);
  check_info("symmetricEigen", code);
  return code == 0;
}

template <class T, class Routine>
int64_t positive_factor(T* x, int64_t size, Routine routine) {
  int n = to_int("cholesky", size), info = 0;
  routine("U", &n, x, &n, &info);
  check_info("cholesky", info);
  return info - 1;
}

/// a y = b is y^T a^T = b^T in column-major order, where a^T is what the memory of a holds.
template <class T, class Routine>
void triangular(const T* a, int64_t size, bool upper, bool transpose, T* b, int64_t columns, Routine routine) {
  int n = to_int("solveTriangular", size), k = to_int("solveTriangular", columns);
  T one = 1;
  routine("R", upper ? "L" : "U", transpose ? "T" : "N", "N", &k, &n, &one, a, &n, b, &k);
}

template <class T, class Factor, class Solve>
int64_t lu(T* a, int64_t size, T* b, int64_t columns, Factor factor, Solve solve) {
  int n = to_int("solve", size), k = to_int("solve", columns), info = 0;
  Buffer<int> pivots(n);
  factor(&n, &n, a, &n, pivots.data(), &info);
  check_info("solve", info);
  if (info > 0) return info - 1;
  solve("T", &n, &k, a, &n, pivots.data(), b, &n, &info);
  check_info("solve", info);
  return -1;
}

constexpr double kOne = 1, kZero = 0;

}  // namespace

void householder_qr(double* x, int64_t m, int64_t n, double* q, double* r) { qr(x, m, n, q, r, dgelqf_, dorglq_); }
void householder_qr(float* x, int64_t m, int64_t n, float* q, float* r) { qr(x, m, n, q, r, sgelqf_, sorglq_); }

bool reduced_svd(double* x, int64_t m, int64_t n, double* u, double* s, double* vt) { return svd(x, m, n, u, s, vt, dgesdd_); }
bool reduced_svd(float* x, int64_t m, int64_t n, float* u, float* s, float* vt) { return svd(x, m, n, u, s, vt, sgesdd_); }

bool symmetric_eigen(double* x, int64_t n, double* values) { return eigen(x, n, values, dsyevd_); }
bool symmetric_eigen(float* x, int64_t n, float* values) { return eigen(x, n, values, ssyevd_); }

int64_t cholesky(double* x, int64_t n) { return positive_factor(x, n, dpotrf_); }
int64_t cholesky(float* x, int64_t n) { return positive_factor(x, n, spotrf_); }

void triangular_solve(const double* a, int64_t n, bool upper, bool transpose, double* b, int64_t k) {
  triangular(a, n, upper, transpose, b, k, dtrsm_);
}
void triangular_solve(const float* a, int64_t n, bool upper, bool transpose, float* b, int64_t k) {
  triangular(a, n, upper, transpose, b, k, strsm_);
}

int64_t lu_solve(double* a, int64_t n, double* b, int64_t k) { return lu(a, n, b, k, dgetrf_, dgetrs_); }
int64_t lu_solve(float* a, int64_t n, float* b, int64_t k) { return lu(a, n, b, k, sgetrf_, sgetrs_); }

void gram(const double* y, int64_t rows, int64_t columns, double* out) {
  int k = to_int("gram", rows), n = to_int("gram", columns);
  dsyrk_("U", "N", &n, &k, &kOne, y, &n, &kZero, out, &n);
}

void divide_rows(double* y, int64_t rows, const double* l, int64_t columns) {
  int k = to_int("gram", rows), n = to_int("gram", columns);
  dtrsm_("L", "U", "T", "N", &n, &k, &kOne, l, &n, y, &n);
}

void multiply_transposed(double* r, const double* l, int64_t size) {
  int n = to_int("gram", size);
  dtrmm_("R", "U", "T", "N", &n, &n, &kOne, l, &n, r, &n);
}

double reciprocal_condition(const double* l, int64_t size) {
  int n = to_int("gram", size), info = 0;
  double result = 0;
  Buffer<double> work(3 * size);
  Buffer<int> integers(size);
  dtrcon_("1", "U", "N", &n, l, &n, &result, work.data(), integers.data(), &info);
  check_info("gram", info);
  return result;
}

}  // namespace lorikeet
