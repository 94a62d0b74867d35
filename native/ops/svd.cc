#include "ops/svd.h"

#include <algorithm>

#include "algo/lapack.h"
#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

template <class T>
void run(const Tensor& x, const Tensor& u, const Tensor& s, const Tensor& vt) {
  int64_t m = x.size(-2), n = x.size(-1), k = std::min(m, n);
  if (x.numel() == 0) return;
  const T* values = x.data<T>();
  check(std::all_of(values, values + x.numel(), [](T value) { return value - value == T(0); }), ErrorCode::non_finite,
        "svd: the matrix holds NaN or infinite values; expected finite ones");
  for (int64_t b = 0; b < x.numel() / (m * n); ++b) {
    check(reduced_svd(x.data<T>() + b * m * n, m, n, u.data<T>() + b * m * k, s.data<T>() + b * k, vt.data<T>() + b * k * n),
          ErrorCode::internal, "svd: LAPACK did not converge on matrix ", b, " of the batch");
  }
}

}  // namespace

std::vector<Tensor> svd(const Tensor& x) {
  check_shape(x.rank() >= 2, "svd: needs a matrix or a batch of matrices; got ", to_string(x.shape()), ", expected [.., M, N]");
  check_argument(x.dtype() == DType::f32 || x.dtype() == DType::f64, "svd: needs f32 or f64; got ", name_of(x.dtype()), ", cast it first");
  check(x.device() == Device::cpu, ErrorCode::device, "svd: runs on the cpu only; got cuda, move the tensor first");
  check_argument(!needs_record({&x}), "svd: is not differentiable; detach the tensor or call it in noGrad()");
  int64_t k = std::min(x.size(-2), x.size(-1));
  Shape u_shape = x.shape(), vt_shape = x.shape(), s_shape = x.shape();
  u_shape[x.rank() - 1] = k;
  vt_shape[x.rank() - 2] = k;
  s_shape.erase(x.rank() - 1);
  s_shape[x.rank() - 2] = k;
  Tensor u = empty(u_shape, x.dtype()), s = empty(s_shape, x.dtype()), vt = empty(vt_shape, x.dtype());
  Tensor copy = clone(x);  // decomposed in place
  enqueue("svd", {copy}, {u, s, vt}, [=] { copy.dtype() == DType::f32 ? run<float>(copy, u, s, vt) : run<double>(copy, u, s, vt); });
  return {u, s, vt};
}

}  // namespace lorikeet
