#include "core/kernel.h"

#include <algorithm>
#include <mutex>

#include "core/error.h"

namespace lorikeet {
namespace {

/// The common layout of every KernelEntry<Args>.
struct AnyEntry {
  KernelSlot* slot;
  int64_t column;
  AnyFunction function;
};

}  // namespace

#if defined(__APPLE__)
extern "C" AnyEntry entries_begin __asm("section$start$__DATA$lk_kernels");
extern "C" AnyEntry entries_end __asm("section$end$__DATA$lk_kernels");
#else
extern "C" {
extern AnyEntry entries_begin __asm("__start_lk_kernels") __attribute__((visibility("hidden")));
extern AnyEntry entries_end __asm("__stop_lk_kernels") __attribute__((visibility("hidden")));
}
#endif

void fill_kernel_slots() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (AnyEntry* entry = &entries_begin; entry != &entries_end; ++entry) {
      entry->slot->functions[entry->column] = entry->function;
    }
  });
}

std::vector<KernelSlot*> all_kernel_slots() {
  std::vector<KernelSlot*> slots;
  for (AnyEntry* entry = &entries_begin; entry != &entries_end; ++entry) {
    if (std::find(slots.begin(), slots.end(), entry->slot) == slots.end()) slots.push_back(entry->slot);
  }
  return slots;
}

AnyFunction KernelSlot::at(Level level) const {
  for (int i = static_cast<int>(level); i >= 0; --i) {
    if (functions[i] != nullptr) return functions[i];
  }
  fail(ErrorCode::device, name, ": no cpu kernel in this build");
}

AnyFunction KernelSlot::cuda() const {
  check(functions[kCudaColumn] != nullptr, ErrorCode::device, name, ": no cuda kernel in this build");
  return functions[kCudaColumn];
}

}  // namespace lorikeet
