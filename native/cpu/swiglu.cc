#include "ops/swiglu.h"
#include "cpu/level.h"
#include "cpu/stored-vector.h"
#include "cpu/vector-exp.h"

// s = sigmoid(gate):
//   forward   y = gate · s · up
//   backward  dup = dy · gate · s,  dgate = dy · up · s · (1 + gate · (1 - s)); either may be left out

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kGrain = 16384;

template <class Body>
LORIKEET_INLINE void for_each_run(int64_t n, const Body& body) {
  parallel_for((n + kGrain - 1) / kGrain, [&](int64_t task) { body(task * kGrain, (task + 1) * kGrain < n ? (task + 1) * kGrain : n); });
}

template <class T>
void forward(const SwigluArgs& a) {
  using C = compute_t<T>;
  auto gate = static_cast<const T*>(a.gate);
  auto up = static_cast<const T*>(a.up);
  auto y = static_cast<T*>(a.out);
  for_each_run(a.n, [&](int64_t first, int64_t last) {
    for_each_vector<T>(last - first, [&](int64_t at, int64_t count) {
      const int64_t i = first + at;
      Vector<C> g = load_stored(gate + i, count);
      store_stored(y + i, g * sigmoid_for<T>(g) * load_stored(up + i, count), count);
    });
  });
}

template <class T>
void backward(const SwigluArgs& a) {
  using C = compute_t<T>;
  auto gate = static_cast<const T*>(a.gate);
  auto up = static_cast<const T*>(a.up);
  auto dy = static_cast<const T*>(a.dy);
  auto dgate = static_cast<T*>(a.dgate);
  auto dup = static_cast<T*>(a.dup);
  for_each_run(a.n, [&](int64_t first, int64_t last) {
    for_each_vector<T>(last - first, [&](int64_t at, int64_t count) {
      const int64_t i = first + at;
      Vector<C> g = load_stored(gate + i, count), s = sigmoid_for<T>(g), d = load_stored(dy + i, count);
      if (dup != nullptr) store_stored(dup + i, d * (g * s), count);
      if (dgate == nullptr) return;
      const Vector<C> one = splat(C(1));
      store_stored(dgate + i, d * load_stored(up + i, count) * (s * fma(g, one - s, one)), count);
    });
  });
}

void swiglu_forward(const SwigluArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward<T>(a))) }
void swiglu_backward(const SwigluArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(swiglu_fwd_kernel, lorikeet::LORIKEET_LEVEL::swiglu_forward)
LORIKEET_KERNEL(swiglu_bwd_kernel, lorikeet::LORIKEET_LEVEL::swiglu_backward)
