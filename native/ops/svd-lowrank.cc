#include "ops/svd-lowrank.h"

#include <algorithm>

#include "algo/buffer.h"
#include "algo/lapack.h"
#include "algo/orthonormal.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/create.h"
#include "ops/decomposition.h"
#include "ops/tall-matrix.h"

namespace lorikeet {
namespace {

struct Sketch {
  int64_t width, iterations;
  uint64_t seed, stream;
};

template <class T>
constexpr DType kTypeOf = sizeof(T) == 8 ? DType::f64 : DType::f32;

template <class T>
void make_orthonormal(T* y, int64_t rows, int64_t width, double* r) {
  check(orthonormalize(y, rows, width, r), ErrorCode::non_finite,
        "svdLowrank: the matrix holds NaN or infinite values, or its products are too large for the dtype; expected finite ones");
}

/// q [rows, width]: orthonormal columns that nearly span those of x.
template <class T>
void find_range(const TallMatrix<T>& x, const Sketch& sketch, T* q) {
  const int64_t width = sketch.width;
  Buffer<T> other(x.columns() * width);
  normal_kernel({kTypeOf<T>, other.data(), x.columns() * width, 0, 1, sketch.seed, sketch.stream});
  x.times(other.data(), width, q);
  make_orthonormal(q, x.rows(), width, nullptr);
  for (int64_t i = 0; i < sketch.iterations; ++i) {
    x.transposed_times(q, width, other.data());
    make_orthonormal(other.data(), x.columns(), width, nullptr);
    x.times(other.data(), width, q);
    make_orthonormal(q, x.rows(), width, nullptr);
  }
}

/// With x^T q = p r and r = u s v^T (in double): x ~ (q v) s (p u)^T.
template <class T>
void decompose(const TallMatrix<T>& x, const Sketch& sketch, T* left, T* s, T* right) {
  const int64_t width = sketch.width;
  Buffer<T> q(x.rows() * width), p(x.columns() * width);
  find_range(x, sketch, q.data());
  x.transposed_times(q.data(), width, p.data());
  Buffer<double> r(width * width), u(width * width), vt(width * width), values(width);
  make_orthonormal(p.data(), x.columns(), width, r.data());
  check(reduced_svd(r.data(), width, width, u.data(), values.data(), vt.data()), ErrorCode::internal,
        "svdLowrank: LAPACK did not converge");
  std::copy(values.data(), values.data() + width, s);
  Buffer<T> rotation(width * width);
  std::copy(u.data(), u.data() + width * width, rotation.data());
  TallMatrix<T>(p.data(), kTypeOf<T>, x.columns(), width).times(rotation.data(), width, right);
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width; ++j) rotation[j * width + i] = static_cast<T>(vt[i * width + j]);
  }
  TallMatrix<T>(q.data(), kTypeOf<T>, x.rows(), width).times(rotation.data(), width, left);
}

template <class T>
void run(const Tensor& x, const Tensor& u, const Tensor& s, const Tensor& v, const Sketch& sketch) {
  const int64_t m = x.size(-2), n = x.size(-1), width = sketch.width, count = matrix_count(x);
  auto one = [&](int64_t b) {
    const TallMatrix<T> matrix(static_cast<const char*>(x.raw()) + b * m * n * size_of(x.dtype()), x.dtype(), m, n);
    T *of_rows = u.data<T>() + b * m * width, *of_columns = v.data<T>() + b * n * width;
    decompose(matrix, sketch, matrix.turned() ? of_columns : of_rows, s.data<T>() + b * width, matrix.turned() ? of_rows : of_columns);
  };
  // Many matrices: one task each. Few: the threads share each matrix. The bits are the same.
  if (count >= 2 * thread_count()) return parallel_for(count, one);
  for (int64_t b = 0; b < count; ++b) one(b);
}

}  // namespace

std::vector<Tensor> svd_lowrank(const Tensor& x, int64_t q, int64_t iterations, uint64_t seed, uint64_t stream) {
  check_matrix("svdLowrank", x);
  check_argument(q >= 1, "svdLowrank: q must be positive; got ", q, ", expected at least 1");
  check_argument(iterations >= 0, "svdLowrank: niter must not be negative; got ", iterations, ", expected at least 0");
  Tensor rows = contiguous(x.detach());
  const DType dtype = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const Sketch sketch{std::min({q, x.size(-2), x.size(-1)}), iterations, seed, stream};
  Tensor u = empty(with_matrix(x.shape(), x.size(-2), sketch.width), dtype), s = empty(with_vector(x.shape(), sketch.width), dtype);
  Tensor v = empty(with_matrix(x.shape(), x.size(-1), sketch.width), dtype);
  enqueue("svdLowrank", {rows}, {u, s, v}, [=] { for_type(dtype, [&]<class T>(T) { run<T>(rows, u, s, v, sketch); }); });
  return {u, s, v};
}

}  // namespace lorikeet
