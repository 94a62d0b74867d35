#pragma once

// What every kernel file of the CUDA backend needs: the stream, launch sizes, and how a launcher enters its slot.

#include <cuda_runtime.h>

#include <cstdint>

#include "core/device.h"

namespace lorikeet::cuda {

/// The one compute stream; all launches come from the engine thread. A failed launch is found by the addon through take_error after the
/// call.
cudaStream_t stream();

/// One launcher, chained into a list when the object is loaded. Slots are found by name, since the addon owns them.
struct KernelEntry {
  const char* slot_name;
  AnyFunction function;
  KernelEntry* next;
};
KernelEntry*& entries();

struct Registration {
  template <class Args>
  Registration(KernelEntry& entry, const char* slot_name, void (*launcher)(const Args&)) {
    entry = {slot_name, reinterpret_cast<AnyFunction>(launcher), entries()};
    entries() = &entry;
  }
};

constexpr int kThreads = 256;
inline unsigned blocks_for(int64_t n) {
  int64_t blocks = (n + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 65535 * 8 ? blocks : 65535 * 8);
}

}  // namespace lorikeet::cuda

/// Last lines of a .cu file: LORIKEET_CUDA_KERNEL("unary", launch_unary_fwd)
#define LORIKEET_CUDA_KERNEL(slot_name, launcher)        \
  static ::lorikeet::cuda::KernelEntry launcher##_entry; \
  static ::lorikeet::cuda::Registration launcher##_registration(launcher##_entry, slot_name, launcher);
