#include "algo/lapack.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "core/error.h"
#include "core/parallel.h"

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
}

namespace lorikeet {
namespace {

std::mutex& lapack_mutex() {
  static std::mutex mutex;
  return mutex;
}

int to_int(const char* routine, int64_t size) {
  check_shape(size <= std::numeric_limits<int>::max(), routine, ": a dimension is too large for LAPACK; got ", size);
  return static_cast<int>(size);
}

void check_info(const char* routine, int info) { check(info == 0, ErrorCode::internal, routine, ": LAPACK refused argument ", -info); }

/// Asks `routine(work, lwork, info)` for its best work size, then runs it with that.
template <class T, class Routine>
void with_workspace(const char* name, Routine routine) {
  T best = 0;
  int query = -1, info = 0;
  routine(&best, &query, &info);
  check_info(name, info);
  int size = std::max(1, static_cast<int>(best));
  Scratch work(size * static_cast<int64_t>(sizeof(T)));
  routine(work.as<T>(), &size, &info);
  check_info(name, info);
}

/// Row-major x is column-major x^T. From x^T = L Q' follows x = Q'^T L^T, so the LQ routines give Q and R in row-major order without a
/// transposition.
template <class T, class Factor, class Generate>
void qr(T* x, int64_t rows, int64_t columns, T* q, T* r, Factor factor, Generate generate) {
  std::lock_guard lock(lapack_mutex());
  int m = to_int("qr", rows), n = to_int("qr", columns), k = std::min(m, n);
  Scratch reflectors(k * static_cast<int64_t>(sizeof(T)));
  T* tau = reflectors.as<T>();
  with_workspace<T>("qr", [&](T* work, const int* size, int* info) { factor(&n, &m, x, &n, tau, work, size, info); });
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < columns; ++j) r[i * columns + j] = j < i ? T(0) : x[i * columns + j];
  }
  with_workspace<T>("qr", [&](T* work, const int* size, int* info) { generate(&k, &m, &k, x, &n, tau, work, size, info); });
  for (int64_t i = 0; i < rows; ++i) std::copy(x + i * columns, x + i * columns + k, q + i * k);
}

/// Row-major x is column-major x^T = V S U^T: the routine's "U" holds our V^T in row-major order, and its "V^T" our U.
template <class T, class Routine>
bool svd(T* x, int64_t rows, int64_t columns, T* u, T* s, T* vt, Routine routine) {
  std::lock_guard lock(lapack_mutex());
  int m = to_int("svd", rows), n = to_int("svd", columns), k = std::min(m, n), code = 0;
  Scratch integers(8 * k * static_cast<int64_t>(sizeof(int)));
  with_workspace<T>("svd", [&](T* work, const int* size, int* info) {
    routine("S", &n, &m, x, &n, s, vt, &n, u, &k, work, size, integers.as<int>(), &code);
    *info = std::min(code, 0);
  });
  return code == 0;
}

}  // namespace

bool reduced_svd(double* x, int64_t m, int64_t n, double* u, double* s, double* vt) { return svd(x, m, n, u, s, vt, dgesdd_); }
bool reduced_svd(float* x, int64_t m, int64_t n, float* u, float* s, float* vt) { return svd(x, m, n, u, s, vt, sgesdd_); }

void householder_qr(double* x, int64_t m, int64_t n, double* q, double* r) { qr(x, m, n, q, r, dgelqf_, dorglq_); }
void householder_qr(float* x, int64_t m, int64_t n, float* q, float* r) { qr(x, m, n, q, r, sgelqf_, sorglq_); }

}  // namespace lorikeet
