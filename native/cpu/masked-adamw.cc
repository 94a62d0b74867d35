#include "cpu/adamw-update.h"
#include "cpu/level.h"
#include "cpu/owned-entries.h"
#include "ops/optimizers.h"

// Parameters and gradients of a run of owned entries are brought together, updated with their compact moments by the loop of the dense
// step, and put back: the bits are those of the dense step.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
void step(const MaskedAdamwArgs& a) {
  using C = compute_t<T>;
  const AdamwNumbers<C> numbers(a, a.step_size, a.root_correction);
  auto parameter = static_cast<T*>(a.parameter);
  auto gradient = static_cast<const T*>(a.gradient);
  auto first_moment = static_cast<C*>(a.first_moment), second_moment = static_cast<C*>(a.second_moment);
  parallel_for(a.mask.tasks(), [&](int64_t task) {
    for_owned(a.mask, task, [&](const OwnedRun& run) {
      T p[kOwnedRun], g[kOwnedRun];
      take_owned(run, parameter, p);
      take_owned(run, gradient, g);
      adamw_update(numbers, p, g, first_moment + run.owned, second_moment + run.owned, run.count);
      put_owned(run, p, parameter);
    });
  });
}

void masked_adamw(const MaskedAdamwArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (step<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(masked_adamw_kernel, lorikeet::LORIKEET_LEVEL::masked_adamw)
