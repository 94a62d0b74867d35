#include "ops/svd.h"

#include <algorithm>

#include "algo/lapack.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/decomposition.h"

namespace lorikeet {
namespace {

template <class T>
void run(const Tensor& x, const Tensor& u, const Tensor& s, const Tensor& vt) {
  int64_t m = x.size(-2), n = x.size(-1), k = std::min(m, n);
  parallel_for(matrix_count(x), [&](int64_t b) {
    T* matrix = x.data<T>() + b * m * n;
    check_finite("svd", matrix, m * n);
    check(reduced_svd(matrix, m, n, u.data<T>() + b * m * k, s.data<T>() + b * k, vt.data<T>() + b * k * n), ErrorCode::internal,
          "svd: LAPACK did not converge on matrix ", b, " of the batch");
  });
}

}  // namespace

std::vector<Tensor> svd(const Tensor& x) {
  check_matrix("svd", x);
  int64_t k = std::min(x.size(-2), x.size(-1));
  Tensor copy = matrix_copy(x);
  DType dtype = copy.dtype();
  Tensor u = empty(with_matrix(x.shape(), x.size(-2), k), dtype), s = empty(with_vector(x.shape(), k), dtype);
  Tensor vt = empty(with_matrix(x.shape(), k, x.size(-1)), dtype);
  enqueue("svd", {copy}, {u, s, vt}, [=] { for_type(dtype, [&]<class T>(T) { run<T>(copy, u, s, vt); }); });
  return {u, s, vt};
}

}  // namespace lorikeet
