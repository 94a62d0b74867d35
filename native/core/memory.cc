#include "core/memory.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/heap.h"
#include "core/poison.h"

namespace lorikeet {
namespace {

/// Blocks up to here come from slabs and go to a list of their size; larger ones are cut from the heap.
constexpr int64_t kLargestSmall = 32 << 10;
constexpr int64_t kSlab = int64_t{2} << 20;

/// Sizes of small blocks come in eighths of powers of two, in cache lines.
int64_t small_size(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 64);
  int64_t power = int64_t{1} << (63 - __builtin_clzll(static_cast<uint64_t>(bytes)));
  int64_t step = std::max<int64_t>(power / 8, 64);
  return (bytes + step - 1) / step * step;
}

class Allocator {
 public:
  void* allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    check(limit_ == 0 || live_ + bytes <= limit_, ErrorCode::out_of_memory, "memory: the limit is reached; ", live_, " bytes are live and ",
          bytes, " more are needed, limit ", limit_, "; dispose tensors, open a scope, or let the event loop turn between steps");
    void* block = bytes <= kLargestSmall ? small(small_size(bytes)) : from_heap(bytes);
    check(block != nullptr, ErrorCode::out_of_memory, "memory: the system has none left; ", live_, " bytes are live and ", bytes,
          " more are needed; use gradient checkpointing, a smaller batch or shorter sequences");
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    LORIKEET_ALLOW(block, bytes);
    return block;
  }

  void release(void* block, int64_t bytes) {
    std::lock_guard lock(mutex_);
    live_ -= bytes;
    LORIKEET_FORBID(block, bytes);
    if (bytes <= kLargestSmall) {
      small_[small_size(bytes)].push_back(block);
    } else {
      heap_.release(block);
    }
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return {live_, peak_, heap_.mapped() - live_, limit_};
  }

  void reset_peak() {
    std::lock_guard lock(mutex_);
    peak_ = live_;
  }

  void set_limit(int64_t bytes) {
    std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

  void trim() {
    std::lock_guard lock(mutex_);
    heap_.trim();
  }

 private:
  void* small(int64_t size) {
    auto& list = small_[size];
    if (!list.empty()) {
      void* block = list.back();
      list.pop_back();
      return block;
    }
    if (slab_left_ < size) {
      void* slab = from_heap(kSlab);
      if (slab == nullptr) return nullptr;
      slab_ = static_cast<char*>(slab);
      slab_left_ = kSlab;
    }
    void* block = slab_;
    slab_ += size;
    slab_left_ -= size;
    return block;
  }

  /// A block of the heap, after giving back what the heap holds in vain where the system has no more.
  void* from_heap(int64_t bytes) {
    void* block = heap_.allocate(bytes);
    if (block == nullptr) {
      heap_.trim();
      block = heap_.allocate(bytes);
    }
    if (block != nullptr) LORIKEET_FORBID(block, bytes);
    return block;
  }

  std::mutex mutex_;
  Heap heap_;
  std::map<int64_t, std::vector<void*>> small_;
  char* slab_ = nullptr;
  int64_t slab_left_ = 0;
  int64_t live_ = 0, peak_ = 0, limit_ = 0;
};

/// Never destroyed: tensors may outlive static destruction order.
Allocator& allocator() {
  static Allocator* instance = new Allocator;
  return *instance;
}

}  // namespace

void* allocate_memory(int64_t bytes) { return allocator().allocate(bytes); }
void release_memory(void* memory, int64_t bytes) { allocator().release(memory, bytes); }
MemoryStats memory_stats() { return allocator().stats(); }
void reset_peak_memory() { allocator().reset_peak(); }
void set_memory_limit(int64_t bytes) { allocator().set_limit(bytes); }
void trim_memory() { allocator().trim(); }

}  // namespace lorikeet
