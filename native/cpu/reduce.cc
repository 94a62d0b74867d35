#include "ops/reduce.h"
#include "cpu/level.h"

// [outer, reduced, inner] -> [outer, inner]. Sums over a contiguous run (inner = 1) use 16 lanes joined in a fixed tree; sums over rows
// (inner > 1) add slices of kSlice rows in order, then the slices in order. So the result depends on the reduced extent alone, not on
// threads or neighbours.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kSlice = 256;
constexpr int64_t kColumnBlock = 1024;

LORIKEET_INLINE int64_t load(const int64_t* p) { return *p; }
LORIKEET_INLINE int64_t load(const int32_t* p) { return *p; }
LORIKEET_INLINE int64_t load(const uint8_t* p) { return *p; }
LORIKEET_INLINE void store(int64_t* p, int64_t v) { *p = v; }
LORIKEET_INLINE void store(int32_t* p, int64_t v) { *p = static_cast<int32_t>(v); }
using lorikeet::load;
using lorikeet::store;

template <class T>
struct Accumulator {
  using type = int64_t;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <>
struct Accumulator<float> {
  using type = float;
};
template <>
struct Accumulator<BFloat16> {
  using type = float;
};
template <>
struct Accumulator<Float16> {
  using type = float;
};

/// Lanes are emptied into a second set every kRun elements, so that long sums keep their small terms.
template <class T, class C>
C sum_run(const T* x, int64_t n) {
  constexpr int64_t kRun = 256 * kLanes;
  C totals[kLanes] = {};
  for (int64_t first = 0; first < n; first += kRun) {
    int64_t last = first + kRun < n ? first + kRun : n;
    C lanes[kLanes] = {};
    int64_t i = first;
    for (; i + kLanes <= last; i += kLanes) {
      for (int k = 0; k < kLanes; ++k) lanes[k] += load(x + i + k);
    }
    for (int k = 0; i + k < last; ++k) lanes[k] += load(x + i + k);
    for (int k = 0; k < kLanes; ++k) totals[k] += lanes[k];
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) totals[k] += totals[k + width];
  }
  return totals[0];
}

/// Sums rows [first, last) of x [.., inner] for columns [from, to) into total.
template <class T, class C>
void sum_slice(const T* x, int64_t inner, int64_t first, int64_t last, int64_t from, int64_t to, C* total) {
  for (int64_t c = from; c < to; ++c) total[c - from] = C(0);
  for (int64_t r = first; r < last; ++r) {
    const T* row = x + r * inner;
    for (int64_t c = from; c < to; ++c) total[c - from] += load(row + c);
  }
}

template <class T, class Out>
void sum(const ReduceArgs& a) {
  using C = typename Accumulator<T>::type;
  auto x = static_cast<const T*>(a.x);
  auto y = static_cast<Out*>(a.y);
  auto finish = [&](C total) { return a.op == ReduceOp::mean ? total / static_cast<C>(a.reduced) : total; };
  if (a.inner == 1) {
    int64_t per_task = a.reduced > 8192 ? 1 : 8192 / (a.reduced > 0 ? a.reduced : 1) + 1;
    parallel_for((a.outer + per_task - 1) / per_task, [&](int64_t task) {
      int64_t last = (task + 1) * per_task < a.outer ? (task + 1) * per_task : a.outer;
      for (int64_t o = task * per_task; o < last; ++o) store(y + o, finish(sum_run<T, C>(x + o * a.reduced, a.reduced)));
    });
    return;
  }
  int64_t slices = (a.reduced + kSlice - 1) / kSlice;
  int64_t blocks = (a.inner + kColumnBlock - 1) / kColumnBlock;
  if (slices == 0) slices = 1;
  Scratch scratch(a.outer * slices * a.inner * static_cast<int64_t>(sizeof(C)));
  C* partial = scratch.as<C>();
  parallel_for(a.outer * slices * blocks, [&](int64_t task) {
    int64_t block = task % blocks, slice = task / blocks % slices, o = task / blocks / slices;
    int64_t from = block * kColumnBlock, to = from + kColumnBlock < a.inner ? from + kColumnBlock : a.inner;
    int64_t first = slice * kSlice, last = first + kSlice < a.reduced ? first + kSlice : a.reduced;
    sum_slice<T, C>(x + o * a.reduced * a.inner, a.inner, first, last, from, to, partial + (o * slices + slice) * a.inner + from);
  });
  parallel_for(a.outer, [&](int64_t o) {
    C* total = partial + o * slices * a.inner;
    for (int64_t s = 1; s < slices; ++s) {
      for (int64_t c = 0; c < a.inner; ++c) total[c] += total[s * a.inner + c];
    }
    for (int64_t c = 0; c < a.inner; ++c) store(y + o * a.inner + c, finish(total[c]));
  });
}

/// True when `candidate` replaces `best`; a NaN wins and stays.
template <bool Max, class C>
LORIKEET_INLINE bool better(C candidate, C best) {
  if (best != best) return false;
  return candidate != candidate || (Max ? candidate > best : candidate < best);
}

template <bool Max, bool Index, class T, class Out>
void extreme(const ReduceArgs& a) {
  auto x = static_cast<const T*>(a.x);
  auto y = static_cast<Out*>(a.y);
  parallel_for(a.outer, [&](int64_t o) {
    const T* base = x + o * a.reduced * a.inner;
    for (int64_t c = 0; c < a.inner; ++c) {
      auto best = load(base + c);
      int64_t index = 0;
      for (int64_t r = 1; r < a.reduced; ++r) {
        auto value = load(base + r * a.inner + c);
        if (better<Max>(value, best)) {
          best = value;
          index = r;
        }
      }
      if constexpr (Index) {
        y[o * a.inner + c] = index;
      } else {
        store(y + o * a.inner + c, best);
      }
    }
  });
}

template <class T>
void reduce_numbers(const ReduceArgs& a) {
  switch (a.op) {
    case ReduceOp::sum:
    case ReduceOp::mean: return sum<T, T>(a);
    case ReduceOp::max: return extreme<true, false, T, T>(a);
    case ReduceOp::min: return extreme<false, false, T, T>(a);
    case ReduceOp::argmax: return extreme<true, true, T, int64_t>(a);
    case ReduceOp::argmin: return extreme<false, true, T, int64_t>(a);
    case ReduceOp::count: return;
  }
}

void reduce(const ReduceArgs& a) {
  switch (a.dtype) {
    case DType::i64: return reduce_numbers<int64_t>(a);
    case DType::i32: return reduce_numbers<int32_t>(a);
    case DType::u8:
    case DType::bool_: return sum<uint8_t, int64_t>(a);
    default: break;
  }
  LORIKEET_FLOAT_SWITCH(a.dtype, T, (reduce_numbers<T>(a)))
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(reduce_kernel, lorikeet::LORIKEET_LEVEL::reduce)
