#include "ops/gather.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"

// gather copies elements by their size. scatter_add works on lines along the middle dimension: a line owns its outputs, its sources are
// added in order in the compute type, and it is rounded once at the end.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class Word>
void take(const GatherArgs& a) {
  auto x = static_cast<const Word*>(a.x);
  auto out = static_cast<Word*>(a.out);
  for_each_row(a.outer, a.count * a.inner, [&](int64_t o) {
    for (int64_t k = 0; k < a.count; ++k) {
      const int64_t* index = a.index + (o * a.count + k) * a.inner;
      Word* to = out + (o * a.count + k) * a.inner;
      for (int64_t i = 0; i < a.inner; ++i) to[i] = x[(o * a.size + index[i]) * a.inner + i];
    }
  });
}

void gather(const GatherArgs& a) {
  switch (size_of(a.dtype)) {
    case 1: return take<uint8_t>(a);
    case 2: return take<uint16_t>(a);
    case 4: return take<uint32_t>(a);
    default: return take<uint64_t>(a);
  }
}

template <class T>
void add(const GatherArgs& a) {
  using C = compute_t<T>;
  constexpr int64_t kWidth = 16;
  auto x = static_cast<const T*>(a.x);
  auto source = static_cast<const T*>(a.source);
  auto out = static_cast<T*>(a.out);
  int64_t blocks = (a.inner + kWidth - 1) / kWidth;
  for_each_row(a.outer * blocks, (a.size + a.count) * kWidth, [&](int64_t task) {
    int64_t o = task / blocks, from = task % blocks * kWidth, width = from + kWidth < a.inner ? kWidth : a.inner - from;
    Scratch scratch(a.size * width * static_cast<int64_t>(sizeof(C)));
    C* lines = scratch.as<C>();
    const T* start = x != nullptr ? x + o * a.size * a.inner + from : nullptr;
    for (int64_t j = 0; j < a.size; ++j) {
      for (int64_t i = 0; i < width; ++i) lines[j * width + i] = start != nullptr ? load(start + j * a.inner + i) : C(0);
    }
    for (int64_t k = 0; k < a.count; ++k) {
      int64_t at = (o * a.count + k) * a.inner + from;
      for (int64_t i = 0; i < width; ++i) lines[a.index[at + i] * width + i] += load(source + at + i);
    }
    T* to = out + o * a.size * a.inner + from;
    for (int64_t j = 0; j < a.size; ++j) {
      for (int64_t i = 0; i < width; ++i) store(to + j * a.inner + i, lines[j * width + i]);
    }
  });
}

void scatter_add(const GatherArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (add<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(gather_kernel, lorikeet::LORIKEET_LEVEL::gather)
LORIKEET_KERNEL(scatter_add_kernel, lorikeet::LORIKEET_LEVEL::scatter_add)
