#include "ops/tall-matrix.h"

#include "algo/buffer.h"
#include "ops/gemm.h"
#include "ops/thin-product.h"

namespace lorikeet {

template <class T>
void TallMatrix<T>::product(bool transposed, const T* q, int64_t width, T* out) const {
  constexpr DType kType = sizeof(T) == 8 ? DType::f64 : DType::f32;
  const int64_t rows = transposed ? n_ : m_, steps = transposed ? m_ : n_;
  Buffer<char> panels(panel_bytes(gemm_level(), panel_for(kType), width, steps, 2));
  gemm_pack_kernel({q, kType, width, steps, 1, width, 1.0, panel_for(kType), 2, panels.data()});
  thin_product_kernel({x_, dtype_, transposed ? 1 : n_, transposed ? n_ : 1, rows, steps, panels.data(), width, out});
}

template class TallMatrix<float>;
template class TallMatrix<double>;

}  // namespace lorikeet
