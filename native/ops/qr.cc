#include "ops/qr.h"

#include <algorithm>

#include "algo/lapack.h"
#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

template <class T>
void run(const Tensor& x, const Tensor& q, const Tensor& r) {
  int64_t m = x.size(-2), n = x.size(-1), k = m < n ? m : n;
  if (x.numel() == 0) return;
  for (int64_t b = 0; b < x.numel() / (m * n); ++b) {
    householder_qr(x.data<T>() + b * m * n, m, n, q.data<T>() + b * m * k, r.data<T>() + b * k * n);
  }
}

}  // namespace

std::vector<Tensor> qr(const Tensor& x) {
  check_shape(x.rank() >= 2, "qr: needs a matrix or a batch of matrices; got ", to_string(x.shape()), ", expected [.., M, N]");
  check_argument(x.dtype() == DType::f32 || x.dtype() == DType::f64, "qr: needs f32 or f64; got ", name_of(x.dtype()), ", cast it first");
  check(x.device() == Device::cpu, ErrorCode::device, "qr: runs on the cpu only; got cuda, move the tensor first");
  check_argument(!needs_record({&x}), "qr: is not differentiable; detach the tensor or call it in noGrad()");
  Shape q_shape = x.shape(), r_shape = x.shape();
  int64_t k = std::min(x.size(-2), x.size(-1));
  q_shape[x.rank() - 1] = k;
  r_shape[x.rank() - 2] = k;
  Tensor q = empty(q_shape, x.dtype()), r = empty(r_shape, x.dtype());
  Tensor copy = clone(x);  // factored in place
  enqueue("qr", {copy}, {q, r}, [=] { copy.dtype() == DType::f32 ? run<float>(copy, q, r) : run<double>(copy, q, r); });
  return {q, r};
}

}  // namespace lorikeet
