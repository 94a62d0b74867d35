#pragma once

#include "cpu/stored-vector.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class C>
LORIKEET_INLINE C add_vector(Vector<C> v) {
  C lanes[kVectorWidth<C>];
  store_vector(lanes, v);
#pragma GCC unroll 4
  for (int width = kVectorWidth<C> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

/// Σ term(i, count) over the vectors of T that cover [0, n); lanes beyond n must be 0. Four sums take turns, and are joined in a fixed
/// tree: the bits depend on the terms and n alone.
template <class T, class Term>
LORIKEET_INLINE compute_t<T> vector_sum(int64_t n, const Term& term) {
  constexpr int64_t kStep = kStoredWidth<T>;
  StoredVector<T> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) sums[part] += term(i + part * kStep, kStep);
  }
  for (; i + kStep <= n; i += kStep) sums[0] += term(i, kStep);
  if (i < n) sums[1] += term(i, n - i);
  return add_vector<compute_t<T>>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace lorikeet::LORIKEET_LEVEL
