#include "algo/orthonormal.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "algo/buffer.h"
#include "algo/lapack.h"
#include "core/parallel.h"

namespace lorikeet {
namespace {

constexpr int64_t kSliceRows = 256;
constexpr int64_t kSlices = 16;  // at most, and none lower than wide: each has a Gram matrix of its own
constexpr int kPasses = 4;
constexpr double kRoundoff = std::numeric_limits<double>::epsilon() / 2;

/// Rows of y in slices that a task takes as doubles.
template <class T>
class Rows {
 public:
  Rows(T* y, int64_t rows, int64_t n)
      : y_(y),
        rows_(rows),
        n_(n),
        slice_rows_(std::max({kSliceRows, n, (rows + kSlices - 1) / kSlices})),
        slices_((rows + slice_rows_ - 1) / slice_rows_) {}

  int64_t slices() const { return slices_; }

  /// Calls body(slice, rows of it, their values), in parallel; the values go back to y when `write`.
  template <class Body>
  void each(bool write, const Body& body) const {
    parallel_for(slices_, [&](int64_t slice) {
      const int64_t first = slice * slice_rows_, count = std::min(slice_rows_, rows_ - first);
      Buffer<double> memory(slice_rows_ * n_);
      double* values = memory.data();
      T* own = y_ + first * n_;
      std::copy(own, own + count * n_, values);
      body(slice, count, values);
      if (write) std::transform(values, values + count * n_, own, [](double value) { return static_cast<T>(value); });
    });
  }

  /// The lower triangle of y^T y.
  void gram_matrix(double* out) const {
    Buffer<double> parts(slices_ * n_ * n_);
    each(false, [&](int64_t slice, int64_t count, const double* values) { gram(values, count, n_, parts.data() + slice * n_ * n_); });
    parallel_for(n_, [&](int64_t i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0;
        for (int64_t slice = 0; slice < slices_; ++slice) sum += parts[(slice * n_ + i) * n_ + j];
        out[i * n_ + j] = sum;
      }
    });
  }

  /// y l^-T.
  void divide(const double* l) const {
    each(true, [&](int64_t, int64_t count, double* values) { divide_rows(values, count, l, n_); });
  }

 private:
  T* y_;
  int64_t rows_, n_, slice_rows_, slices_;
};

double trace(const double* g, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += g[i * n + i];
  return sum;
}

/// The Cholesky factor of a Gram matrix, shifted away from zero when it is not positive definite. False when that does not help.
bool factor(const double* g, int64_t rows, int64_t n, double* l, bool& shifted) {
  std::copy(g, g + n * n, l);
  shifted = cholesky(l, n) >= 0;
  if (!shifted) return true;
  std::copy(g, g + n * n, l);
  const double shift = 11 * static_cast<double>(rows * n + n * (n + 1)) * kRoundoff * trace(g, n);
  for (int64_t i = 0; i < n; ++i) l[i * n + i] += shift;
  return cholesky(l, n) < 0;
}

/// y = q r by reflections; r is multiplied from the left.
template <class T>
void reflect(T* y, int64_t rows, int64_t n, double* r) {
  Buffer<T> copy(rows * n), step(n * n);
  std::copy(y, y + rows * n, copy.data());
  householder_qr(copy.data(), rows, n, y, step.data());
  if (r == nullptr) return;
  Buffer<double> l(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) l[j * n + i] = static_cast<double>(step[i * n + j]);
  }
  multiply_transposed(r, l.data(), n);
}

template <class T>
bool run(T* y, int64_t rows, int64_t n, double* r) {
  const Rows<T> all(y, rows, n);
  for (int64_t i = 0; r != nullptr && i < n * n; ++i) r[i] = i % (n + 1) == 0 ? 1 : 0;
  const double wanted = std::max<double>(std::numeric_limits<T>::epsilon() / 4, 4 * static_cast<double>(n) * kRoundoff);
  Buffer<double> g(n * n), l(n * n);
  bool done = false, shifted = false;
  for (int pass = 0; pass < kPasses && !done; ++pass) {
    all.gram_matrix(g.data());
    const bool finite = std::isfinite(trace(g.data(), n));
    if (!finite && !std::all_of(y, y + rows * n, [](T value) { return std::isfinite(value); })) return false;
    if (!finite || !factor(g.data(), rows, n, l.data(), shifted)) break;
    all.divide(l.data());
    if (r != nullptr) multiply_transposed(r, l.data(), n);
    // One pass leaves columns orthogonal to roundoff times the square of the condition number.
    const double inverse = reciprocal_condition(l.data(), n);
    done = !shifted && static_cast<double>(n) * kRoundoff <= wanted * inverse * inverse;
  }
  if (!done) reflect(y, rows, n, r);
  return true;
}

}  // namespace

bool orthonormalize(float* y, int64_t rows, int64_t n, double* r) { return run(y, rows, n, r); }
bool orthonormalize(double* y, int64_t rows, int64_t n, double* r) { return run(y, rows, n, r); }

}  // namespace lorikeet
