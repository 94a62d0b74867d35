#include "ops/cross-entropy.h"
#include "cpu/lanes.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"
#include "cpu/vector-math.h"

// A row of logits l with target t, z = scale · l, m = max z, s = Σ e^(z - m):
//   loss = log s - (z_t - m),   dl = weight · scale · (e^(z - m) / s - [t]), with the difference at the target taken before rounding.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kBlock = 256;

/// Σ e^(scale · l - most): exponentials by blocks, so that they become vector code, added in lanes block by block.
template <class C, class T>
LORIKEET_INLINE C sum_of_exponentials(const T* logits, int64_t n, C scale, C most) {
  C totals[kLanes] = {};
  for (int64_t first = 0; first < n; first += kBlock) {
    int64_t count = first + kBlock < n ? kBlock : n - first;
    C powers[kBlock], lanes[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) powers[i] = vexp(load(logits + first + i) * scale - most);
    for (int64_t i = count; i % kLanes != 0; ++i) powers[i] = 0;
    for (int64_t i = 0; i < count; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) lanes[l] += powers[i + l];
    }
    for (int l = 0; l < kLanes; ++l) totals[l] += lanes[l];
  }
  return add_lanes(totals);
}

template <class T, class G>
LORIKEET_INLINE void write_gradients(const T* logits, int64_t n, compute_t<T> scale, compute_t<T> most, compute_t<T> factor,
                                     compute_t<T> share, G* gradients) {
  // Source and target may be the same memory, element for element.
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) store(gradients + i, factor * (vexp(load(logits + i) * scale - most) * share));
}

template <class T, class G>
void loss_row(const LossRowsArgs& a, int64_t row) {
  using C = compute_t<T>;
  int64_t n = a.columns, target = a.targets[row];
  const T* logits = static_cast<const T*>(a.logits) + row * n;
  G* gradients = a.gradients != nullptr ? static_cast<G*>(a.gradients) + row * n : nullptr;
  if (target == a.ignore_index) {
    if (a.losses != nullptr) static_cast<C*>(a.losses)[row] = 0;
    if (gradients != nullptr) __builtin_memset(gradients, 0, static_cast<size_t>(n) * sizeof(G));
    return;
  }
  C scale = static_cast<C>(a.scale);
  C most = lane_max<C>(n, -static_cast<C>(__builtin_inf()), [&](int64_t i) { return load(logits + i) * scale; });
  C sum = sum_of_exponentials(logits, n, scale, most);
  C at_target = load(logits + target) * scale - most;
  if (a.losses != nullptr) static_cast<C*>(a.losses)[row] = vlog(sum) - at_target;
  if (gradients != nullptr) {
    C factor = scale * (a.weights != nullptr ? static_cast<const C*>(a.weights)[row] : C(1));
    C share = C(1) / sum;
    write_gradients(logits, n, scale, most, factor, share, gradients);
    store(gradients + target, factor * (vexp(at_target) * share - C(1)));
  }
}

template <class T, class G>
void run(const LossRowsArgs& a) {
  for_each_row(a.rows, a.columns, [&](int64_t row) { loss_row<T, G>(a, row); });
}

/// Gradients have the dtype of the logits, or a 16-bit type beside f32 logits.
void loss_rows(const LossRowsArgs& a) {
  if (a.dtype == DType::f32 && a.gradient_dtype == DType::bf16) return run<float, BFloat16>(a);
  if (a.dtype == DType::f32 && a.gradient_dtype == DType::f16) return run<float, Float16>(a);
  LORIKEET_FLOAT_SWITCH(a.dtype, T, (run<T, T>(a)))
}

template <class T>
void scale_all(const ScaleRowsArgs& a) {
  auto x = static_cast<const T*>(a.x);
  auto out = static_cast<T*>(a.out);
  for_each_row(a.rows, a.columns, [&](int64_t row) {
    auto weight = static_cast<const compute_t<T>*>(a.weights)[row];
    for (int64_t i = row * a.columns; i < (row + 1) * a.columns; ++i) store(out + i, load(x + i) * weight);
  });
}

void scale_rows(const ScaleRowsArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (scale_all<T>(a))) }

template <class T>
void add_all(const AddRowsArgs& a) {
  auto x = static_cast<const T*>(a.x);
  auto sums = static_cast<T*>(a.sums);
  if (a.rows == 1) {
    for_each_row((a.columns + kBlock - 1) / kBlock, kBlock, [&](int64_t block) {
      int64_t last = (block + 1) * kBlock < a.columns ? (block + 1) * kBlock : a.columns;
      for (int64_t i = block * kBlock; i < last; ++i) sums[i] += x[i];
    });
    return;
  }
  sum_rows<T>(
      a.rows, a.columns, [&](int64_t row, int64_t c) { return x[row * a.columns + c]; }, [&](int64_t c, T total) { sums[c] += total; });
}

void add_rows(const AddRowsArgs& a) {
  if (a.dtype == DType::f64) return add_all<double>(a);
  add_all<float>(a);
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(loss_rows_kernel, lorikeet::LORIKEET_LEVEL::loss_rows)
LORIKEET_KERNEL(scale_rows_kernel, lorikeet::LORIKEET_LEVEL::scale_rows)
LORIKEET_KERNEL(add_rows_kernel, lorikeet::LORIKEET_LEVEL::add_rows)
