#include "core/storage.h"

#include "core/device.h"
#include "core/memory.h"

namespace lorikeet {

Storage::Storage(Device device, int64_t bytes) : device_(device), bytes_(bytes) {}

Storage::Storage(const void* memory, int64_t bytes, std::shared_ptr<const MappedFile> file)
    : device_(Device::cpu), bytes_(bytes), data_(const_cast<void*>(memory)), file_(std::move(file)) {}

Storage::~Storage() {
  if (data_ == nullptr || file_ != nullptr) return;
  if (device_ == Device::cpu) {
    release_memory(data_, bytes_);
  } else {
    cuda_backend().release(data_, bytes_);
  }
}

void Storage::materialize() {
  if (data_ != nullptr) return;
  data_ = device_ == Device::cpu ? allocate_memory(bytes_) : cuda_backend().allocate(bytes_);
}

}  // namespace lorikeet
