#include "ops/cross-entropy.h"
#include "cpu/level.h"
#include "cpu/row-sums.h"
#include "cpu/row-tasks.h"
#include "cpu/vector-exp.h"

// A row of logits l with target t, z = scale · l, m = max z, s = Σ e^(z - m):
//   loss = log s - (z_t - m),   dl = weight · scale · (e^(z - m) / s - [t]), with the difference at the target taken before rounding.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

/// Elements that one sweep of the maximum, and one of the exponentials, go through.
constexpr int64_t kBlock = 512;

/// v with `value` in the lanes from `count` on.
template <class C>
LORIKEET_INLINE Vector<C> filled(Vector<C> v, int64_t count, C value) {
  for (int64_t i = count; i < kVectorWidth<C>; ++i) v[i] = value;
  return v;
}

/// m = max z and s = Σ e^(z - m) of a row, in one pass: every lane keeps its own two, and they are joined in the end.
template <class C>
struct RowSums {
  C most, sum;
};

template <class T>
LORIKEET_INLINE RowSums<compute_t<T>> row_sums(const T* logits, int64_t n, compute_t<T> row_scale) {
  using C = compute_t<T>;
  const C none = -static_cast<C>(__builtin_inf());
  const Vector<C> scale = splat(row_scale);
  auto scaled = [&](int64_t i, int64_t count) {
    const Vector<C> z = load_stored(logits + i, count) * scale;
    return count == kStoredWidth<T> ? z : filled<C>(z, count, none);
  };
  Vector<C> most = splat(none), sum{};
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = n - first < kBlock ? n - first : kBlock;
    const Vector<C> before = most;
    for_each_vector<T>(count, [&](int64_t i, int64_t part) { most = larger(scaled(first + i, part), most); });
    // A lane that has seen nothing above -infinity keeps 0 as its reference: its exponentials are 0.
    const Vector<C> reference = most == none ? Vector<C>{} : most;
    sum = sum * exp_of(before - reference);
    for_each_vector<T>(count, [&](int64_t i, int64_t part) { sum += exp_of(scaled(first + i, part) - reference); });
  }
  RowSums<C> all{none, 0};
  for (int lane = 0; lane < kVectorWidth<C>; ++lane) all.most = most[lane] > all.most ? most[lane] : all.most;
  const Vector<C> shares = most == none ? sum : sum * exp_of(most - splat(all.most));
  all.sum = add_vector<C>(shares);
  return all;
}

template <class T, class G>
LORIKEET_INLINE void write_gradients(const T* logits, int64_t n, compute_t<T> scale, compute_t<T> most, compute_t<T> factor,
                                     compute_t<T> share, G* gradients) {
  using C = compute_t<T>;
  for_each_vector<T>(n, [&](int64_t i, int64_t count) {
    const Vector<C> power = exp_of(load_stored(logits + i, count) * splat(scale) - splat(most));
    store_stored(gradients + i, splat(factor) * (power * splat(share)), count);
  });
}

template <class T, class G>
void loss_row(const LossRowsArgs& a, int64_t row) {
  using C = compute_t<T>;
  int64_t n = a.columns, target = a.targets[row];
  const T* logits = static_cast<const T*>(a.logits) + row * a.logits_row_stride;
  G* gradients = a.gradients != nullptr ? static_cast<G*>(a.gradients) + row * a.gradient_row_stride : nullptr;
  if (target == a.ignore_index) {
    if (a.losses != nullptr) static_cast<C*>(a.losses)[row] = 0;
    if (gradients != nullptr) __builtin_memset(gradients, 0, static_cast<size_t>(n) * sizeof(G));
    return;
  }
  const C scale = static_cast<C>(a.scale);
  const RowSums<C> sums = row_sums<T>(logits, n, scale);
  T target_logit;  // the gradients may overwrite it
  __builtin_memcpy(&target_logit, logits + target, sizeof target_logit);
  const C at_target = load(&target_logit) * scale - sums.most;
  if (a.losses != nullptr) static_cast<C*>(a.losses)[row] = vlog(sums.sum) - at_target;
  if (gradients != nullptr) {
    C factor = scale * (a.weights != nullptr ? static_cast<const C*>(a.weights)[row] : C(1));
    C share = C(1) / sums.sum;
    write_gradients(logits, n, scale, sums.most, factor, share, gradients);
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
  using C = compute_t<T>;
  auto x = static_cast<const T*>(a.x);
  auto out = static_cast<T*>(a.out);
  for_each_row(a.rows, a.columns, [&](int64_t row) {
    const Vector<C> weight = splat(static_cast<const C*>(a.weights)[row]);
    const T* from = x + row * a.columns;
    T* to = out + row * a.columns;
    for_each_vector<T>(a.columns, [&](int64_t i, int64_t count) { store_stored(to + i, load_stored(from + i, count) * weight, count); });
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
