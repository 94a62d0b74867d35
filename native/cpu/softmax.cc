#include "ops/softmax.h"
#include "cpu/lanes.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"
#include "cpu/vector-math.h"

// Rows x [D] with m = max x and s = Σ e^(x - m):
//   softmax      y = e^(x - m) / s       dx = y (dy - Σ dy y)
//   log_softmax  y = x - m - log s       dx = dy - e^y Σ dy
//   log_sum_exp  y = m + log s           dx = dy e^(x - y)

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
void forward(const SoftmaxArgs& a) {
  using C = compute_t<T>;
  const C infinity = static_cast<C>(__builtin_inff());
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.out) + (a.op == SoftmaxOp::log_sum_exp ? row : row * n);
    C most = lane_max<C>(n, -infinity, [&](int64_t i) { return load(x + i); });
    C total = lane_sum<C>(n, [&](int64_t i) { return vexp(load(x + i) - most); });
    if (a.op == SoftmaxOp::softmax) {
      C inverse = C(1) / total;
      for (int64_t i = 0; i < n; ++i) store(y + i, vexp(load(x + i) - most) * inverse);
    } else if (a.op == SoftmaxOp::log_softmax) {
      C log_total = vlog(total);
      for (int64_t i = 0; i < n; ++i) store(y + i, load(x + i) - most - log_total);
    } else if (most == infinity || most == -infinity) {
      // Nothing but -infinity, or NaN beside it: the sum of x tells them apart.
      C sum = lane_sum<C>(n, [&](int64_t i) { return load(x + i); });
      store(y, n == 0 || sum == sum ? most : sum);
    } else {
      store(y, most + vlog(total));
    }
  });
}

template <class T>
void backward(const SoftmaxArgs& a) {
  using C = compute_t<T>;
  int64_t n = a.columns;
  for_each_row(a.rows, n, [&](int64_t row) {
    T* dx = static_cast<T*>(a.out) + row * n;
    if (a.op == SoftmaxOp::log_sum_exp) {
      const T* x = static_cast<const T*>(a.x) + row * n;
      C y = load(static_cast<const T*>(a.y) + row), dy = load(static_cast<const T*>(a.dy) + row);
      for (int64_t i = 0; i < n; ++i) store(dx + i, dy * vexp(load(x + i) - y));
      return;
    }
    const T* y = static_cast<const T*>(a.y) + row * n;
    const T* dy = static_cast<const T*>(a.dy) + row * n;
    if (a.op == SoftmaxOp::softmax) {
      C dot = lane_sum<C>(n, [&](int64_t i) { return load(dy + i) * load(y + i); });
      for (int64_t i = 0; i < n; ++i) store(dx + i, load(y + i) * (load(dy + i) - dot));
    } else {
      C total = lane_sum<C>(n, [&](int64_t i) { return load(dy + i); });
      for (int64_t i = 0; i < n; ++i) store(dx + i, fma(-vexp(load(y + i)), total, load(dy + i)));
    }
  });
}

void softmax_fwd(const SoftmaxArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward<T>(a))) }
void softmax_bwd(const SoftmaxArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(softmax_fwd_kernel, lorikeet::LORIKEET_LEVEL::softmax_fwd)
LORIKEET_KERNEL(softmax_bwd_kernel, lorikeet::LORIKEET_LEVEL::softmax_bwd)
