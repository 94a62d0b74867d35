#include "ops/symmetric-eigen.h"

#include "algo/lapack.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/decomposition.h"
#include "ops/matmul.h"

namespace lorikeet {

std::vector<Tensor> symmetric_eigen(const Tensor& x) {
  check_matrix("symmetricEigen", x);
  check_square("symmetricEigen", x);
  Tensor rows = matrix_copy(x);  // becomes the vectors, one in each row
  int64_t n = x.size(-1);
  Tensor values = empty(with_vector(x.shape(), n), rows.dtype());
  enqueue("symmetricEigen", {rows}, {values, rows}, [=] {
    for_type(rows.dtype(), [&]<class T>(T) {
      parallel_for(matrix_count(rows), [&](int64_t b) {
        T* matrix = rows.data<T>() + b * n * n;
        check_finite("symmetricEigen", matrix, n * n);
        check(symmetric_eigen(matrix, n, values.data<T>() + b * n), ErrorCode::internal,
              "symmetricEigen: LAPACK did not converge on matrix ", b, " of the batch");
      });
    });
  });
  return {values, transposed(rows)};
}

}  // namespace lorikeet
