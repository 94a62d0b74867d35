#include "ops/solve.h"

#include "algo/lapack.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/decomposition.h"
#include "ops/matmul.h"

namespace lorikeet {
namespace {

void check_system(const char* op, const Tensor& a, const Tensor& b) {
  check_matrix(op, a);
  check_matrix(op, b);
  check_square(op, a);
  check_argument(a.dtype() == b.dtype(), op, ": dtypes differ; got a ", name_of(a.dtype()), " and b ", name_of(b.dtype()),
                 ", expected one");
  check_shape(a.rank() == b.rank() && with_matrix(a.shape(), a.size(-1), b.size(-1)) == b.shape(), op, ": sizes do not fit; got a ",
              to_string(a.shape()), " and b ", to_string(b.shape()), ", expected [.., N, N] and [.., N, K]");
}

void check_pivot(const char* op, int64_t matrix, int64_t row) {
  check_argument(row < 0, op, ": matrix ", matrix, " of the batch is singular; got a zero pivot in row ", row,
                 ", expected invertible ones");
}

template <class T>
int64_t zero_on_diagonal(const T* a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (a[i * n + i] == T(0)) return i;
  }
  return -1;
}

}  // namespace

Tensor solve(const Tensor& a, const Tensor& b) {
  check_system("solve", a, b);
  Tensor factors = matrix_copy(a), turned = matrix_copy(transposed(b));
  int64_t n = a.size(-1), k = b.size(-1);
  enqueue("solve", {factors, turned}, {turned, factors}, [=] {
    for_type(turned.dtype(), [&]<class T>(T) {
      parallel_for(matrix_count(turned), [&](int64_t i) {
        T* matrix = factors.data<T>() + i * n * n;
        check_finite("solve", matrix, n * n);
        check_finite("solve", turned.data<T>() + i * n * k, n * k);
        check_pivot("solve", i, lu_solve(matrix, n, turned.data<T>() + i * n * k, k));
      });
    });
  });
  return transposed(turned);
}

Tensor solve_triangular(const Tensor& a, const Tensor& b, bool upper, bool transpose) {
  check_system("solveTriangular", a, b);
  Tensor matrices = matrix_copy(a), y = matrix_copy(b);
  int64_t n = a.size(-1), k = b.size(-1);
  enqueue("solveTriangular", {matrices, y}, {y}, [=] {
    for_type(y.dtype(), [&]<class T>(T) {
      parallel_for(matrix_count(y), [&](int64_t i) {
        const T* matrix = matrices.data<T>() + i * n * n;
        check_finite("solveTriangular", matrix, n * n);
        check_finite("solveTriangular", y.data<T>() + i * n * k, n * k);
        check_pivot("solveTriangular", i, zero_on_diagonal(matrix, n));
        triangular_solve(matrix, n, upper, transpose, y.data<T>() + i * n * k, k);
      });
    });
  });
  return y;
}

}  // namespace lorikeet
