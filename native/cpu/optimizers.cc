#include "ops/optimizers.h"
#include "cpu/adamw-update.h"
#include "cpu/level.h"
#include "cpu/tensor-list.h"

// One pass over parameter, gradient and states; the order of roundings is PyTorch's.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
void adamw_run(const AdamwArgs& a, const ListEntry& entry, int64_t first, int64_t last) {
  using C = compute_t<T>;
  const AdamwNumbers<C> numbers(a, entry.scalars[0], entry.scalars[1]);
  adamw_update(numbers, static_cast<T*>(entry.data[0]) + first, static_cast<const T*>(entry.data[1]) + first,
               static_cast<C*>(entry.data[2]) + first, static_cast<C*>(entry.data[3]) + first, last - first);
}

/// p[i] += rate * step_of(i, gradient); a branch inside the loop would keep it from the vector registers.
template <class T, class Step>
LORIKEET_INLINE void sgd_loop(const SgdArgs& a, T* __restrict p, const T* __restrict g, int64_t count, const Step& step_of) {
  using C = compute_t<T>;
  const C scale = static_cast<C>(a.scale), rate = static_cast<C>(-a.rate), decay = static_cast<C>(a.decay);
  for (int64_t i = 0; i < count; ++i) {
    const C gradient = load(g + i) * scale + decay * load(p + i);
    store(p + i, load(p + i) + rate * step_of(i, gradient));
  }
}

template <class T>
void sgd_run(const SgdArgs& a, const ListEntry& entry, int64_t first, int64_t last) {
  using C = compute_t<T>;
  T* p = static_cast<T*>(entry.data[0]) + first;
  const T* g = static_cast<const T*>(entry.data[1]) + first;
  const int64_t count = last - first;
  if (entry.data[2] == nullptr) return sgd_loop(a, p, g, count, [](int64_t, C gradient) { return gradient; });
  C* __restrict buffer = static_cast<C*>(entry.data[2]) + first;
  const C momentum = static_cast<C>(a.momentum), damped = static_cast<C>(1 - a.dampening);
  const auto fresh = [=](int64_t i, C gradient) { return buffer[i] = gradient; };
  const auto kept = [=](int64_t i, C gradient) { return buffer[i] = buffer[i] * momentum + damped * gradient; };
  const auto ahead = [=](const auto& updated) { return [=](int64_t i, C gradient) { return gradient + momentum * updated(i, gradient); }; };
  const bool first_step = entry.scalars[0] != 0;
  if (a.nesterov) return first_step ? sgd_loop(a, p, g, count, ahead(fresh)) : sgd_loop(a, p, g, count, ahead(kept));
  return first_step ? sgd_loop(a, p, g, count, fresh) : sgd_loop(a, p, g, count, kept);
}

template <class T>
void lion_run(const LionArgs& a, const ListEntry& entry, int64_t first, int64_t last) {
  using C = compute_t<T>;
  auto p = static_cast<T*>(entry.data[0]);
  auto g = static_cast<const T*>(entry.data[1]);
  auto m = static_cast<C*>(entry.data[2]);
  const C scale = static_cast<C>(a.scale), keep = static_cast<C>(1 - a.rate * a.decay), rate = static_cast<C>(a.rate);
  const C beta1 = static_cast<C>(a.beta1), weight1 = static_cast<C>(1 - a.beta1);
  const C beta2 = static_cast<C>(a.beta2), weight2 = static_cast<C>(1 - a.beta2);
  for (int64_t i = first; i < last; ++i) {
    C gradient = load(g + i) * scale;
    C direction = m[i] * beta1 + weight1 * gradient;
    C sign = direction > 0 ? C(1) : direction < 0 ? C(-1) : direction;
    m[i] = m[i] * beta2 + weight2 * gradient;
    store(p + i, load(p + i) * keep - rate * sign);
  }
}

void adamw(const AdamwArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, (adamw_run<T>(a, entry, first, last)))
  });
}

void sgd(const SgdArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, (sgd_run<T>(a, entry, first, last)))
  });
}

void lion(const LionArgs& a) {
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, (lion_run<T>(a, entry, first, last)))
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(adamw_kernel, lorikeet::LORIKEET_LEVEL::adamw)
LORIKEET_KERNEL(sgd_kernel, lorikeet::LORIKEET_LEVEL::sgd)
LORIKEET_KERNEL(lion_kernel, lorikeet::LORIKEET_LEVEL::lion)
