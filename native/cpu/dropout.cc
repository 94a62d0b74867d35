#include "ops/dropout.h"
#include "core/rng.h"
#include "cpu/level.h"

// Element i takes word i % 4 of Philox(seed, stream, i / 4): the mask of the low-rank layers (cpu/dropout-mask.h), made in blocks so that
// the rounds of many counters run side by side.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kGrain = 16384;
constexpr int64_t kCounters = 64;

template <class T>
void apply(const DropoutArgs& a) {
  using C = compute_t<T>;
  auto x = static_cast<const T*>(a.x);
  auto y = static_cast<T*>(a.out);
  const auto limit = static_cast<float>(a.p);
  const C scale = static_cast<C>(1.0 / (1.0 - a.p));
  parallel_for((a.n + kGrain - 1) / kGrain, [&](int64_t task) {
    int64_t end = (task + 1) * kGrain < a.n ? (task + 1) * kGrain : a.n;
    for (int64_t first = task * kGrain; first < end; first += kCounters * 4) {
      float uniform[kCounters * 4];
      for (int64_t counter = 0; counter < kCounters; ++counter) {
        Philox block(a.seed, a.stream, static_cast<uint64_t>(first / 4 + counter));
        for (int w = 0; w < 4; ++w) uniform[counter * 4 + w] = uniform_from(block.word[w]);
      }
      int64_t count = first + kCounters * 4 < end ? kCounters * 4 : end - first;
      for (int64_t i = 0; i < count; ++i) {
        C kept = load(x + first + i) * scale;
        store(y + first + i, uniform[i] >= limit ? kept : C(0));
      }
    }
  });
}

void dropout(const DropoutArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (apply<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(dropout_kernel, lorikeet::LORIKEET_LEVEL::dropout)
