#pragma once

#include <cstdint>
#include <vector>

#include "core/level.h"
#include "core/storage.h"

namespace lorikeet {

using AnyFunction = void (*)();

/// The CUDA column of a slot comes after the CPU levels.
inline constexpr int kCudaColumn = kLevels;
inline constexpr int kColumns = kLevels + 1;

/// Throws the failure of the CUDA launch just made, if any.
void check_cuda_launch(const char* kernel);

/// One kernel of one op: a function per CPU instruction level and one for CUDA. Declared in the op's header, filled by the backend files.
struct KernelSlot {
  const char* name;
  AnyFunction functions[kColumns] = {};

  constexpr explicit KernelSlot(const char* slot_name) : name(slot_name) {}

  /// The function of the highest level at or below `level` (CPU) or of the CUDA column; throws `name: no ... kernel in this build`.
  AnyFunction at(Level level) const;
  AnyFunction cuda() const;
};

/// A slot for kernels of type void(const Args&).
template <class Args>
struct Kernel : KernelSlot {
  using KernelSlot::KernelSlot;
  using Function = void (*)(const Args&);

  /// Runs the kernel of the level in force (see active_level).
  void operator()(const Args& args) const { at_level(active_level())(args); }
  /// The same on the device that holds the data.
  void on(Device device, const Args& args) const {
    if (device == Device::cpu) return (*this)(args);
    on_cuda()(args);
    check_cuda_launch(name);
  }
  Function at_level(Level level) const { return reinterpret_cast<Function>(at(level)); }
  Function on_cuda() const { return reinterpret_cast<Function>(cuda()); }
};

/// What one kernel file contributes: which slot, which column, which function. Entries are constants in a linker section of their own, so
/// that no code compiled for a wide instruction level runs while the addon loads.
template <class Args>
struct KernelEntry {
  Kernel<Args>* slot;
  int64_t column;
  void (*function)(const Args&);
};

/// Copies all entries of this binary into their slots. Idempotent; called once when the addon loads.
void fill_kernel_slots();

/// Every slot that has at least one CPU kernel, each once.
std::vector<KernelSlot*> all_kernel_slots();

}  // namespace lorikeet

#if defined(__APPLE__)
#define LORIKEET_KERNEL_SECTION "__DATA,lk_kernels"
#else
#define LORIKEET_KERNEL_SECTION "lk_kernels"
#endif

/// Last lines of a kernel file in cpu/: LORIKEET_KERNEL(rms_norm_fwd_kernel, rms_norm_fwd). The alignment keeps the entries of a file an
/// array: without it the compiler may align each to 16 bytes and leave gaps.
#define LORIKEET_KERNEL(slot_name, function_name)                                                                                    \
  __attribute__((used, aligned(8), section(LORIKEET_KERNEL_SECTION))) constinit static ::lorikeet::KernelEntry slot_name##_entry = { \
      &::lorikeet::slot_name, static_cast<int64_t>(::lorikeet::LORIKEET_LEVEL::kThisLevel), &function_name};
