#include <cmath>

#include "cpu/level.h"
#include "cpu/vector-math.h"
#include "ops/elementwise.h"

// One functor per row of core/elementwise.h. Kernels run over contiguous arrays.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kGrain = 16384;

#include "core/elementwise-functions.h"

template <class F, class T>
void unary_forward(const UnaryArgs& a) {
  using C = compute_t<T>;
  auto x = static_cast<const T*>(a.x);
  auto y = static_cast<T*>(a.out);
  C p = static_cast<C>(a.p), q = static_cast<C>(a.q);
  parallel_for((a.n + kGrain - 1) / kGrain, [&](int64_t task) {
    int64_t first = task * kGrain, last = first + kGrain < a.n ? first + kGrain : a.n;
    for (int64_t i = first; i < last; ++i) store(y + i, F::template forward<C>(load(x + i), p, q));
  });
}

template <class F, class T>
void unary_backward(const UnaryArgs& a) {
  using C = compute_t<T>;
  auto v = static_cast<const T*>(a.x);
  auto dy = static_cast<const T*>(a.dy);
  auto dx = static_cast<T*>(a.out);
  C p = static_cast<C>(a.p), q = static_cast<C>(a.q);
  parallel_for((a.n + kGrain - 1) / kGrain, [&](int64_t task) {
    int64_t first = task * kGrain, last = first + kGrain < a.n ? first + kGrain : a.n;
    for (int64_t i = first; i < last; ++i) store(dx + i, load(dy + i) * F::template derivative<C>(load(v + i), p, q));
  });
}

void unary_fwd(const UnaryArgs& a) {
  switch (a.op) {
#define LORIKEET_CASE(name, ...) \
  case UnaryOp::name##_op: LORIKEET_FLOAT_SWITCH(a.dtype, T, (unary_forward<name##_functor, T>(a))) break;
    LORIKEET_UNARY_OPS(LORIKEET_CASE)
#undef LORIKEET_CASE
    case UnaryOp::count: break;
  }
}

void unary_bwd(const UnaryArgs& a) {
  switch (a.op) {
#define LORIKEET_CASE(name, ...) \
  case UnaryOp::name##_op: LORIKEET_FLOAT_SWITCH(a.dtype, T, (unary_backward<name##_functor, T>(a))) break;
    LORIKEET_UNARY_OPS(LORIKEET_CASE)
#undef LORIKEET_CASE
    case UnaryOp::count: break;
  }
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(unary_fwd_kernel, lorikeet::LORIKEET_LEVEL::unary_fwd)
LORIKEET_KERNEL(unary_bwd_kernel, lorikeet::LORIKEET_LEVEL::unary_bwd)
