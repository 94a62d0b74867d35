// The CUDA backend: device memory and copies, and the one exported function that fills the kernel slots of the addon that loads this
// object.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

#include "cuda/launch.cuh"

namespace lorikeet::cuda {
namespace {

const char* message(cudaError_t status) { return status == cudaSuccess ? nullptr : cudaGetErrorString(status); }

const char* allocate_bytes(int64_t bytes, void** memory) {
  return message(cudaMallocAsync(memory, bytes > 0 ? static_cast<size_t>(bytes) : 1, stream()));
}

const char* release_bytes(void* memory) { return message(cudaFreeAsync(memory, stream())); }

const char* copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return nullptr;
  cudaError_t status = cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream());
  return message(status != cudaSuccess ? status : cudaStreamSynchronize(stream()));
}

const char* copy_to_device(void* device, const void* host, int64_t bytes) { return copy(device, host, bytes, cudaMemcpyHostToDevice); }
const char* copy_to_host(void* host, const void* device, int64_t bytes) { return copy(host, device, bytes, cudaMemcpyDeviceToHost); }
const char* synchronize() { return message(cudaStreamSynchronize(stream())); }

const char* take_error() { return message(cudaGetLastError()); }

const char* describe() {
  static char text[512];
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "unknown device";
  snprintf(text, sizeof text, "%s, compute %d.%d, %.0f GiB", properties.name, properties.major, properties.minor,
           static_cast<double>(properties.totalGlobalMem) / (1 << 30));
  return text;
}

}  // namespace

cudaStream_t stream() {
  static cudaStream_t instance = [] {
    cudaStream_t created = nullptr;
    cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
    return created;
  }();
  return instance;
}

KernelEntry*& entries() {
  static KernelEntry* head = nullptr;
  return head;
}

}  // namespace lorikeet::cuda

extern "C" __attribute__((visibility("default"))) const char* lorikeet_cuda_register(int abi, lorikeet::CudaBackend* backend,
                                                                                     lorikeet::KernelSlot** slots, int64_t slot_count) {
  using namespace lorikeet::cuda;
  if (abi != lorikeet::kCudaAbi) return "the CUDA backend was built for another version of the addon";
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) return "no usable NVIDIA driver is installed";
  if (status != cudaSuccess) return cudaGetErrorString(status);
  if (count == 0) return "no NVIDIA GPU was found";
  *backend = {allocate_bytes, release_bytes, copy_to_device, copy_to_host, synchronize, take_error, describe};
  for (KernelEntry* entry = entries(); entry != nullptr; entry = entry->next) {
    for (int64_t i = 0; i < slot_count; ++i) {
      if (std::strcmp(slots[i]->name, entry->slot_name) == 0) slots[i]->functions[lorikeet::kCudaColumn] = entry->function;
    }
  }
  return nullptr;
}
