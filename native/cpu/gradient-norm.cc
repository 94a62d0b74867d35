#include "ops/gradient-norm.h"
#include "cpu/lanes.h"
#include "cpu/level.h"
#include "cpu/tensor-list.h"

// Sums over the chunks of a list, one partial a chunk: squares in double, and counts of values whose difference from themselves is not zero
// (NaN, ±inf).

namespace lorikeet::LORIKEET_LEVEL {
namespace {

void square_sum(const ListSumArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t chunk) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
      const T* x = static_cast<const T*>(entry.data[0]) + first;
      a.partials[chunk] = lane_sum<double>(last - first, [&](int64_t i) {
        double v = load(x + i);
        return v * v;
      });
    })
  });
}

void non_finite(const ListSumArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t chunk) {
    int64_t count = 0;
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
      const T* x = static_cast<const T*>(entry.data[0]);
      for (int64_t i = first; i < last; ++i) {
        auto v = load(x + i);
        count += v - v != 0 ? 1 : 0;
      }
    })
    a.partials[chunk] = static_cast<double>(count);
  });
}

void list_scale(const ListScaleArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
      T* x = static_cast<T*>(entry.data[0]);
      auto scale = static_cast<compute_t<T>>(a.scale);
      for (int64_t i = first; i < last; ++i) store(x + i, load(x + i) * scale);
    })
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(square_sum_kernel, lorikeet::LORIKEET_LEVEL::square_sum)
LORIKEET_KERNEL(non_finite_kernel, lorikeet::LORIKEET_LEVEL::non_finite)
LORIKEET_KERNEL(list_scale_kernel, lorikeet::LORIKEET_LEVEL::list_scale)
