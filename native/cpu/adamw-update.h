#pragma once

// One AdamW step of a run of elements, in PyTorch's order of roundings: what the dense and the masked step share, so that their bits agree.

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

LORIKEET_INLINE float root(float x) { return __builtin_sqrtf(x); }
LORIKEET_INLINE double root(double x) { return __builtin_sqrt(x); }

/// The numbers of a step in the type that it computes in.
template <class C>
struct AdamwNumbers {
  C scale, keep, weight1, beta2, weight2, eps, step, correction;

  /// `Args` has scale, rate, beta1, beta2, eps and decay; `step_size` is rate / (1 - beta1^t), `root_correction` sqrt(1 - beta2^t).
  template <class Args>
  LORIKEET_INLINE AdamwNumbers(const Args& a, double step_size, double root_correction)
      : scale(static_cast<C>(a.scale)),
        keep(static_cast<C>(1 - a.rate * a.decay)),
        weight1(static_cast<C>(1 - a.beta1)),
        beta2(static_cast<C>(a.beta2)),
        weight2(static_cast<C>(1 - a.beta2)),
        eps(static_cast<C>(a.eps)),
        step(static_cast<C>(-step_size)),
        correction(static_cast<C>(root_correction)) {}
};

template <class T>
LORIKEET_INLINE void adamw_update(const AdamwNumbers<compute_t<T>>& a, T* p, const T* g, compute_t<T>* m, compute_t<T>* v, int64_t n) {
  using C = compute_t<T>;
  for (int64_t i = 0; i < n; ++i) {
    C gradient = load(g + i) * a.scale;
    C m1 = m[i] + a.weight1 * (gradient - m[i]);
    C v1 = v[i] * a.beta2 + a.weight2 * gradient * gradient;
    m[i] = m1;
    v[i] = v1;
    store(p + i, load(p + i) * a.keep + a.step * m1 / (root(v1) / a.correction + a.eps));
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
