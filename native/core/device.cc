#include "core/device.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/error.h"

namespace lorikeet {
namespace {

struct Loaded {
  CudaBackend backend = {};
  std::string reason;
};

std::string folder_of_this_binary() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&folder_of_this_binary), &info) == 0 || info.dli_fname == nullptr) return ".";
  std::string path = info.dli_fname;
  auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

Loaded load() {
  Loaded loaded;
  const char* override_path = std::getenv("LORIKEET_CUDA_PATH");
  std::string path = override_path != nullptr ? override_path : folder_of_this_binary() + "/lorikeet_cuda.so";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    loaded.reason = concat("the CUDA backend is not installed (", dlerror(), ")");
    return loaded;
  }
  auto fill = reinterpret_cast<CudaRegister>(dlsym(library, "lorikeet_cuda_register"));
  if (fill == nullptr) {
    loaded.reason = concat(path, " is not a Lorikeet CUDA backend");
    return loaded;
  }
  std::vector<KernelSlot*> slots = all_kernel_slots();
  const char* problem = fill(kCudaAbi, &loaded.backend, slots.data(), static_cast<int64_t>(slots.size()));
  if (problem != nullptr) loaded.reason = problem;
  return loaded;
}

const Loaded& loaded() {
  static const Loaded* instance = new Loaded(load());
  return *instance;
}

void check_cuda(const char* problem) { check(problem == nullptr, ErrorCode::device, "cuda: ", problem != nullptr ? problem : ""); }

}  // namespace

void* CudaBackend::allocate(int64_t bytes) const {
  void* memory = nullptr;
  const char* problem = allocate_bytes(bytes, &memory);
  check(problem == nullptr, ErrorCode::out_of_memory, "memory: the GPU has none left; ", bytes, " bytes are needed (",
        problem != nullptr ? problem : "", ")");
  return memory;
}

void CudaBackend::release(void* memory, int64_t) const { check_cuda(release_bytes(memory)); }

void check_cuda_launch(const char* kernel) {
  const char* problem = cuda_backend().take_error();
  check(problem == nullptr, ErrorCode::device, kernel, ": the CUDA launch failed; ", problem != nullptr ? problem : "");
}

const char* cuda_unavailable_reason() { return loaded().reason.empty() ? nullptr : loaded().reason.c_str(); }

const CudaBackend& cuda_backend() {
  check(loaded().reason.empty(), ErrorCode::device, "device: cuda cannot be used here; ", loaded().reason);
  return loaded().backend;
}

}  // namespace lorikeet
