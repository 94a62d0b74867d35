#pragma once

#include <algorithm>
#include <cstdint>

#include "core/memory.h"

namespace lorikeet {

/// Work memory of a decomposition: `count` elements, undefined at first, given back at once (Scratch would keep the largest ever asked
/// for).
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : bytes_(std::max<int64_t>(count, 1) * static_cast<int64_t>(sizeof(T))), data_(static_cast<T*>(allocate_memory(bytes_))) {}
  ~Buffer() { release_memory(data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  int64_t bytes_;
  T* data_;
};

}  // namespace lorikeet
