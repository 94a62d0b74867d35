#include "ops/layer-norm.h"
#include "cpu/level.h"
#include "cpu/row-sums.h"
#include "cpu/row-tasks.h"

// Rows x [D], n = (x - mean) · rstd:
//   forward          y = n · w + b
//   backward         dx = rstd · (g - mean(g) - n · mean(g · n)) with g = dy · w
//   backward_weight  dw = Σ_rows dy · n
//   backward_bias    db = Σ_rows dy
// Of a sum: x + addend is rounded and stored first, and its own gradient is added to the rounded dx.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T, class W>
void forward(const LayerNormArgs& a) {
  using C = compute_t<T>;
  auto w = static_cast<const W*>(a.weight);
  auto b = static_cast<const W*>(a.bias);
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.out) + row * n;
    if (a.addend != nullptr) {
      T* sum = static_cast<T*>(a.sum) + row * n;
      add_row(x, static_cast<const T*>(a.addend) + row * n, sum, n);
      x = sum;
    }
    C mean = vector_sum<T>(n, [&](int64_t i, int64_t count) { return load_stored(x + i, count); }) / static_cast<C>(n);
    C squares = vector_sum<T>(n, [&](int64_t i, int64_t count) {
      Vector<C> d = only_first<T>(load_stored(x + i, count) - splat(mean), count);
      return d * d;
    });
    C rstd = C(1) / __builtin_sqrt(squares / static_cast<C>(n) + static_cast<C>(a.eps));
    static_cast<C*>(a.mean)[row] = mean;
    static_cast<C*>(a.rstd)[row] = rstd;
    for_each_vector<T>(n, [&](int64_t i, int64_t count) {
      Vector<C> scale = w != nullptr ? load_stored(w + i, count) : splat(C(1));
      Vector<C> shift = b != nullptr ? load_stored(b + i, count) : Vector<C>{};
      store_stored(y + i, fma((load_stored(x + i, count) - splat(mean)) * splat(rstd), scale, shift), count);
    });
  });
}

template <class T, class W>
void backward(const LayerNormArgs& a) {
  using C = compute_t<T>;
  auto w = static_cast<const W*>(a.weight);
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    const T* dy = static_cast<const T*>(a.dy) + row * n;
    T* dx = static_cast<T*>(a.out) + row * n;
    C mean = static_cast<const C*>(a.mean)[row], rstd = static_cast<const C*>(a.rstd)[row];
    auto g = [&](int64_t i, int64_t count) {
      Vector<C> v = load_stored(dy + i, count);
      return w != nullptr ? v * load_stored(w + i, count) : v;
    };
    auto normal = [&](int64_t i, int64_t count) { return (load_stored(x + i, count) - splat(mean)) * splat(rstd); };
    C sum = vector_sum<T>(n, g) / static_cast<C>(n);
    C dot = vector_sum<T>(n, [&](int64_t i, int64_t count) { return g(i, count) * normal(i, count); }) / static_cast<C>(n);
    for_each_vector<T>(n, [&](int64_t i, int64_t count) {
      store_stored(dx + i, splat(rstd) * (g(i, count) - splat(sum) - normal(i, count) * splat(dot)), count);
    });
    if (a.dsum != nullptr) add_row(dx, static_cast<const T*>(a.dsum) + row * n, dx, n);
  });
}

template <class T, class W>
void backward_weight(const LayerNormArgs& a) {
  using C = compute_t<T>;
  auto x = static_cast<const T*>(a.x);
  auto dy = static_cast<const T*>(a.dy);
  auto mean = static_cast<const C*>(a.mean);
  auto rstd = static_cast<const C*>(a.rstd);
  int64_t n = a.columns;
  sum_rows<C>(
      a.rows, n, [&](int64_t row, int64_t c) { return load(dy + row * n + c) * ((load(x + row * n + c) - mean[row]) * rstd[row]); },
      [&](int64_t c, C total) { store(static_cast<W*>(a.out) + c, total); });
}

template <class T, class W>
void backward_bias(const LayerNormArgs& a) {
  using C = compute_t<T>;
  auto dy = static_cast<const T*>(a.dy);
  int64_t n = a.columns;
  sum_rows<C>(
      a.rows, n, [&](int64_t row, int64_t c) { return load(dy + row * n + c); },
      [&](int64_t c, C total) { store(static_cast<W*>(a.out) + c, total); });
}

/// Weight and bias have x's dtype, or are f32.
#define LORIKEET_BY_DTYPES(name)                                   \
  void layer_norm_##name(const LayerNormArgs& a) {                 \
    if (a.weight_dtype == DType::f32 && a.dtype != DType::f32) {   \
      if (a.dtype == DType::bf16) return name<BFloat16, float>(a); \
      return name<Float16, float>(a);                              \
    }                                                              \
    LORIKEET_FLOAT_SWITCH(a.dtype, T, (name<T, T>(a)))             \
  }
LORIKEET_BY_DTYPES(forward)
LORIKEET_BY_DTYPES(backward)
LORIKEET_BY_DTYPES(backward_weight)
LORIKEET_BY_DTYPES(backward_bias)
#undef LORIKEET_BY_DTYPES

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(layer_norm_fwd_kernel, lorikeet::LORIKEET_LEVEL::layer_norm_forward)
LORIKEET_KERNEL(layer_norm_bwd_kernel, lorikeet::LORIKEET_LEVEL::layer_norm_backward)
LORIKEET_KERNEL(layer_norm_bwd_weight_kernel, lorikeet::LORIKEET_LEVEL::layer_norm_backward_weight)
LORIKEET_KERNEL(layer_norm_bwd_bias_kernel, lorikeet::LORIKEET_LEVEL::layer_norm_backward_bias)
