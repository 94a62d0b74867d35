#pragma once

// Reductions over a row in a fixed order: element i goes to lane i % kLanes and the lanes are joined in a fixed tree. The bits of a result
// depend on the row and its length alone, and the loops vectorise at every level without reordering.

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int kLanes = 16;
/// Lanes of a maximum: the order does not matter there, and a longer inner loop is what the compiler turns into vector code.
inline constexpr int kMaxLanes = 64;

template <class C>
LORIKEET_INLINE C add_lanes(C* lanes) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

/// Σ term(i) over i in [0, n). Lanes are emptied into a second set every kLaneRun elements, so that long sums keep their small terms.
inline constexpr int64_t kLaneRun = 256 * kLanes;
template <class C, class Term>
LORIKEET_INLINE C lane_sum(int64_t n, const Term& term) {
  C totals[kLanes] = {};
  for (int64_t first = 0; first < n; first += kLaneRun) {
    int64_t last = first + kLaneRun < n ? first + kLaneRun : n, whole = first + (last - first) / kLanes * kLanes;
    C lanes[kLanes] = {};
    for (int64_t i = first; i < whole; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) lanes[l] += term(i + l);
    }
    for (int64_t i = whole; i < last; ++i) lanes[i - whole] += term(i);
    for (int l = 0; l < kLanes; ++l) totals[l] += lanes[l];
  }
  return add_lanes(totals);
}

/// The largest term(i), or `least` when n is 0; terms that are not a number are passed over.
template <class C, class Term>
LORIKEET_INLINE C lane_max(int64_t n, C least, const Term& term) {
  C lanes[kMaxLanes];
  for (int l = 0; l < kMaxLanes; ++l) lanes[l] = least;
  int64_t whole = n / kMaxLanes * kMaxLanes;
  for (int64_t i = 0; i < whole; i += kMaxLanes) {
    for (int l = 0; l < kMaxLanes; ++l) {
      C value = term(i + l);
      lanes[l] = value > lanes[l] ? value : lanes[l];
    }
  }
  C best = least;
  for (int64_t i = whole; i < n; ++i) {
    C value = term(i);
    best = value > best ? value : best;
  }
  for (int l = 0; l < kMaxLanes; ++l) best = lanes[l] > best ? lanes[l] : best;
  return best;
}

}  // namespace lorikeet::LORIKEET_LEVEL
