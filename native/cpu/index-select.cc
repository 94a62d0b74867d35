#include "ops/index-select.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"

// Copies of runs of bytes, and their gradient: one task sums the uses of one target in a block of columns, in order, in the compute type.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

void select(const IndexSelectArgs& a) {
  auto x = static_cast<const char*>(a.x);
  auto out = static_cast<char*>(a.out);
  for_each_row(a.outer * a.count, a.run, [&](int64_t row) {
    int64_t o = row / a.count, k = row % a.count;
    __builtin_memcpy(out + row * a.run, x + (o * a.size + a.index[k]) * a.run, static_cast<size_t>(a.run));
  });
}

template <class T>
void add(const IndexAddArgs& a) {
  using C = compute_t<T>;
  constexpr int64_t kBlock = 256;
  auto dy = static_cast<const T*>(a.dy);
  auto out = static_cast<T*>(a.out);
  for_each_row(a.outer * a.size, a.inner,
               [&](int64_t row) { __builtin_memset(out + row * a.inner, 0, static_cast<size_t>(a.inner) * sizeof(T)); });
  int64_t blocks = (a.inner + kBlock - 1) / kBlock;
  for_each_row(a.outer * a.targets * blocks, kBlock, [&](int64_t task) {
    int64_t block = task % blocks, s = task / blocks % a.targets, o = task / blocks / a.targets;
    int64_t from = block * kBlock, width = from + kBlock < a.inner ? kBlock : a.inner - from;
    C total[kBlock] = {};
    for (int64_t i = a.first[s]; i < a.first[s + 1]; ++i) {
      const T* row = dy + (o * a.count + a.order[i]) * a.inner + from;
      for (int64_t c = 0; c < width; ++c) total[c] += load(row + c);
    }
    T* to = out + (o * a.size + a.target[s]) * a.inner + from;
    for (int64_t c = 0; c < width; ++c) store(to + c, total[c]);
  });
}

void index_add(const IndexAddArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (add<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(index_select_kernel, lorikeet::LORIKEET_LEVEL::select)
LORIKEET_KERNEL(index_add_kernel, lorikeet::LORIKEET_LEVEL::index_add)
