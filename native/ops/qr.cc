#include "ops/qr.h"

#include <algorithm>

#include "algo/lapack.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/decomposition.h"

namespace lorikeet {
namespace {

template <class T>
void run(const Tensor& x, const Tensor& q, const Tensor& r) {
  int64_t m = x.size(-2), n = x.size(-1), k = std::min(m, n);
  parallel_for(matrix_count(x),
               [&](int64_t b) { householder_qr(x.data<T>() + b * m * n, m, n, q.data<T>() + b * m * k, r.data<T>() + b * k * n); });
}

}  // namespace

std::vector<Tensor> qr(const Tensor& x) {
  check_matrix("qr", x);
  int64_t k = std::min(x.size(-2), x.size(-1));
  Tensor copy = matrix_copy(x);
  DType dtype = copy.dtype();
  Tensor q = empty(with_matrix(x.shape(), x.size(-2), k), dtype), r = empty(with_matrix(x.shape(), k, x.size(-1)), dtype);
  enqueue("qr", {copy}, {q, r}, [=] { for_type(dtype, [&]<class T>(T) { run<T>(copy, q, r); }); });
  return {q, r};
}

}  // namespace lorikeet
