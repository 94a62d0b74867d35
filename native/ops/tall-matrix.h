#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace lorikeet {

/// A matrix [m, n] of contiguous rows seen with its longer side down: as x where m >= n, else as x^T. Products with thin matrices of type T
/// (float for 16-bit x) read it where it is, on all threads; their bits do not depend on the number of threads.
template <class T>
class TallMatrix {
 public:
  TallMatrix(const void* x, DType dtype, int64_t m, int64_t n) : x_(x), dtype_(dtype), m_(m), n_(n) {}

  bool turned() const { return m_ < n_; }
  int64_t rows() const { return turned() ? n_ : m_; }
  int64_t columns() const { return turned() ? m_ : n_; }

  /// out [rows, width] = this matrix · q [columns, width]
  void times(const T* q, int64_t width, T* out) const { product(turned(), q, width, out); }
  /// out [columns, width] = this matrix^T · q [rows, width]
  void transposed_times(const T* q, int64_t width, T* out) const { product(!turned(), q, width, out); }

 private:
  void product(bool transposed, const T* q, int64_t width, T* out) const;  // x q or x^T q

  const void* x_;
  DType dtype_;
  int64_t m_, n_;
};

extern template class TallMatrix<float>;
extern template class TallMatrix<double>;

}  // namespace lorikeet
