#include "ops/rms-norm.h"
#include "cpu/level.h"
#include "cpu/row-sums.h"
#include "cpu/row-tasks.h"

// Rows x [D], weight w [D], n = x · rstd:
//   forward          y = w · round(n)
//   backward         dx = rstd · (g - n · mean(g · n)) with g = dy · w; the rounding passes gradients through
//   backward_weight  dw = Σ_rows dy · round(n)
// Of a sum: x + addend is rounded and stored first, and its own gradient is added to the rounded dx.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

/// v as it is after storing it in T.
template <class T>
LORIKEET_INLINE compute_t<T> rounded(compute_t<T> v) {
  T stored;
  store(&stored, v);
  return load(&stored);
}

template <class T, class W>
void forward(const RmsNormArgs& a) {
  using C = compute_t<T>;
  auto w = static_cast<const W*>(a.weight);
  auto rstd = static_cast<C*>(a.rstd);
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.out) + row * n;
    if (a.addend != nullptr) {
      T* sum = static_cast<T*>(a.sum) + row * n;
      add_row(x, static_cast<const T*>(a.addend) + row * n, sum, n);
      x = sum;
    }
    C squares = vector_sum<T>(n, [&](int64_t i, int64_t count) {
      Vector<C> v = load_stored(x + i, count);
      return v * v;
    });
    C r = C(1) / __builtin_sqrt(squares / static_cast<C>(n) + static_cast<C>(a.eps));
    rstd[row] = r;
    for_each_vector<T>(n, [&](int64_t i, int64_t count) {
      store_stored(y + i, load_stored(w + i, count) * rounded_to<T>(load_stored(x + i, count) * splat(r)), count);
    });
  });
}

template <class T, class W>
void backward(const RmsNormArgs& a) {
  using C = compute_t<T>;
  auto w = static_cast<const W*>(a.weight);
  auto rstd = static_cast<const C*>(a.rstd);
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    const T* dy = static_cast<const T*>(a.dy) + row * n;
    T* dx = static_cast<T*>(a.out) + row * n;
    C r = rstd[row];
    C dot = vector_sum<T>(
        n, [&](int64_t i, int64_t count) { return load_stored(dy + i, count) * load_stored(w + i, count) * load_stored(x + i, count); });
    C share = dot * r * r / static_cast<C>(n);
    for_each_vector<T>(n, [&](int64_t i, int64_t count) {
      Vector<C> g = load_stored(dy + i, count) * load_stored(w + i, count);
      store_stored(dx + i, splat(r) * fma(splat(-share), load_stored(x + i, count), g), count);
    });
    if (a.dsum != nullptr) add_row(dx, static_cast<const T*>(a.dsum) + row * n, dx, n);
  });
}

template <class T, class W>
void backward_weight(const RmsNormArgs& a) {
  using C = compute_t<T>;
  auto x = static_cast<const T*>(a.x);
  auto dy = static_cast<const T*>(a.dy);
  auto rstd = static_cast<const C*>(a.rstd);
  auto dw = static_cast<W*>(a.out);
  int64_t n = a.columns;
  sum_rows<C>(
      a.rows, n, [&](int64_t row, int64_t c) { return load(dy + row * n + c) * rounded<T>(load(x + row * n + c) * rstd[row]); },
      [&](int64_t c, C total) { store(dw + c, total); });
}

/// The weight has x's dtype, or is f32.
#define LORIKEET_BY_DTYPES(name)                                   \
  void rms_norm_##name(const RmsNormArgs& a) {                     \
    if (a.weight_dtype == DType::f32 && a.dtype != DType::f32) {   \
      if (a.dtype == DType::bf16) return name<BFloat16, float>(a); \
      return name<Float16, float>(a);                              \
    }                                                              \
    LORIKEET_FLOAT_SWITCH(a.dtype, T, (name<T, T>(a)))             \
  }
LORIKEET_BY_DTYPES(forward)
LORIKEET_BY_DTYPES(backward)
LORIKEET_BY_DTYPES(backward_weight)
#undef LORIKEET_BY_DTYPES

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(rms_norm_fwd_kernel, lorikeet::LORIKEET_LEVEL::rms_norm_forward)
LORIKEET_KERNEL(rms_norm_bwd_kernel, lorikeet::LORIKEET_LEVEL::rms_norm_backward)
LORIKEET_KERNEL(rms_norm_bwd_weight_kernel, lorikeet::LORIKEET_LEVEL::rms_norm_backward_weight)
