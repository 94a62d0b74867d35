#pragma once

#include <cstdint>
#include <string>

#include "core/kernel.h"

namespace lorikeet {

/// What the CUDA shared object offers, filled by its one exported function. Plain C types: the two binaries share no C++ runtime state.
/// Functions return null on success or a static message.
struct CudaBackend {
  const char* (*allocate_bytes)(int64_t bytes, void** memory);
  const char* (*release_bytes)(void* memory);
  const char* (*copy_to_device)(void* device, const void* host, int64_t bytes);
  const char* (*copy_to_host)(void* host, const void* device, int64_t bytes);
  const char* (*synchronize)();
  /// The failure of a launch since the last call, or null. No exception crosses between the two binaries.
  const char* (*take_error)();
  /// "NVIDIA H200, compute 9.0, 139 GiB"
  const char* (*describe)();

  void* allocate(int64_t bytes) const;
  void release(void* memory, int64_t bytes) const;
};

/// The exported function of the CUDA shared object: fills `backend` and the CUDA column of the slots it knows, found by name in `slots`.
/// Returns null, or why the device cannot be used.
inline constexpr int kCudaAbi = 1;
using CudaRegister = const char* (*)(int abi, CudaBackend* backend, KernelSlot** slots, int64_t slot_count);

/// Loads the CUDA shared object (LORIKEET_CUDA_PATH, or lorikeet_cuda.so beside the addon) on first use; throws a device error that says
/// why not.
const CudaBackend& cuda_backend();
/// Null when CUDA can be used, else the reason in words. Loads on first use.
const char* cuda_unavailable_reason();

}  // namespace lorikeet
