#include "ops/cholesky.h"

#include <algorithm>

#include "algo/lapack.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/decomposition.h"

namespace lorikeet {

Tensor cholesky(const Tensor& x) {
  check_matrix("cholesky", x);
  check_square("cholesky", x);
  Tensor l = matrix_copy(x);
  int64_t n = x.size(-1);
  enqueue("cholesky", {l}, {l}, [=] {
    for_type(l.dtype(), [&]<class T>(T) {
      parallel_for(matrix_count(l), [&](int64_t b) {
        T* matrix = l.data<T>() + b * n * n;
        check_finite("cholesky", matrix, n * n);
        int64_t failed = cholesky(matrix, n);
        check_argument(failed < 0, "cholesky: matrix ", b,
                       " of the batch is not positive definite; got a pivot that is not positive in row ", failed,
                       ", expected symmetric positive definite matrices");
        for (int64_t i = 0; i < n; ++i) std::fill(matrix + i * n + i + 1, matrix + (i + 1) * n, T(0));
      });
    });
  });
  return l;
}

}  // namespace lorikeet
