#include "ops/layer-norm.h"
#include "cpu/lanes.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"

// Rows x [D], n = (x - mean) · rstd:
//   forward          y = n · w + b
//   backward         dx = rstd · (g - mean(g) - n · mean(g · n)) with g = dy · w
//   backward_weight  dw = Σ_rows dy · n
//   backward_bias    db = Σ_rows dy

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
    C mean = lane_sum<C>(n, [&](int64_t i) { return load(x + i); }) / static_cast<C>(n);
    C squares = lane_sum<C>(n, [&](int64_t i) {
      C d = load(x + i) - mean;
      return d * d;
    });
    C rstd = C(1) / __builtin_sqrt(squares / static_cast<C>(n) + static_cast<C>(a.eps));
    static_cast<C*>(a.mean)[row] = mean;
    static_cast<C*>(a.rstd)[row] = rstd;
    if (w != nullptr && b != nullptr) {
      for (int64_t i = 0; i < n; ++i) {
        store(y + i, fma((load(x + i) - mean) * rstd, static_cast<C>(load(w + i)), static_cast<C>(load(b + i))));
      }
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      C scale = w != nullptr ? static_cast<C>(load(w + i)) : C(1), shift = b != nullptr ? static_cast<C>(load(b + i)) : C(0);
      store(y + i, fma((load(x + i) - mean) * rstd, scale, shift));
    }
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
    auto g = [&](int64_t i) { return w != nullptr ? load(dy + i) * static_cast<C>(load(w + i)) : load(dy + i); };
    C sum = lane_sum<C>(n, g) / static_cast<C>(n);
    C dot = lane_sum<C>(n, [&](int64_t i) { return g(i) * ((load(x + i) - mean) * rstd); }) / static_cast<C>(n);
    for (int64_t i = 0; i < n; ++i) store(dx + i, rstd * (g(i) - sum - (load(x + i) - mean) * rstd * dot));
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
