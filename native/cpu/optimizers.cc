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

template <class T>
void sgd_run(const SgdArgs& a, const ListEntry& entry, int64_t first, int64_t last) {
  using C = compute_t<T>;
  auto p = static_cast<T*>(entry.data[0]);
  auto g = static_cast<const T*>(entry.data[1]);
  auto b = static_cast<C*>(entry.data[2]);
  const C scale = static_cast<C>(a.scale), rate = static_cast<C>(-a.rate), momentum = static_cast<C>(a.momentum);
  const C damped = static_cast<C>(1 - a.dampening), decay = static_cast<C>(a.decay);
  const bool fresh = entry.scalars[0] != 0;
  for (int64_t i = first; i < last; ++i) {
    C gradient = load(g + i) * scale + decay * load(p + i);
    if (b != nullptr) {
      C buffer = fresh ? gradient : b[i] * momentum + damped * gradient;
      b[i] = buffer;
      gradient = a.nesterov ? gradient + momentum * buffer : buffer;
    }
    store(p + i, load(p + i) + rate * gradient);
  }
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
