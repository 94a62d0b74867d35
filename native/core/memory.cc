#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"

// Under AddressSanitizer exactly the bytes asked for can be touched, and none of a block that was given back.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define LORIKEET_ALLOW(memory, bytes) __asan_unpoison_memory_region(memory, static_cast<size_t>(bytes))
#define LORIKEET_FORBID(memory, bytes) __asan_poison_memory_region(memory, static_cast<size_t>(bytes))
#else
#define LORIKEET_ALLOW(memory, bytes) static_cast<void>(0)
#define LORIKEET_FORBID(memory, bytes) static_cast<void>(0)
#endif

namespace lorikeet {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kSlab = 8 * kHugePage;
constexpr int64_t kLargestSmall = int64_t{1} << 20;

/// Sizes come in eighths of powers of two: at most 12.5 % is lost, and steps of one shape find each other's blocks again.
int64_t size_class(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 64);
  int64_t power = int64_t{1} << (63 - __builtin_clzll(static_cast<uint64_t>(bytes)));
  int64_t step = std::max<int64_t>(power / 8, 64);
  if (bytes > kLargestSmall) step = std::max(step, kHugePage);
  return (bytes + step - 1) / step * step;
}

/// 2 MiB aligned pages from the system, or null.
void* map_pages(int64_t bytes) {
  void* raw = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto start = reinterpret_cast<uintptr_t>(raw);
  auto aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(raw, aligned - start);
  auto tail = start + bytes + kHugePage - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
#if defined(MADV_HUGEPAGE)
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<void*>(aligned);
}

class Allocator {
 public:
  void* allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    check(limit_ == 0 || live_ + bytes <= limit_, ErrorCode::out_of_memory, "memory: the limit is reached; ", live_, " bytes are live and ",
          bytes, " more are needed, limit ", limit_, "; dispose tensors, open a scope, or let the event loop turn between steps");
    int64_t size = size_class(bytes);
    void* block = size <= kLargestSmall ? small(size) : large(size);
    check(block != nullptr, ErrorCode::out_of_memory, "memory: the system has none left; ", live_, " bytes are live and ", bytes,
          " more are needed; use gradient checkpointing, a smaller batch or shorter sequences");
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    LORIKEET_FORBID(block, size);
    LORIKEET_ALLOW(block, bytes);
    return block;
  }

  void release(void* block, int64_t bytes) {
    std::lock_guard lock(mutex_);
    int64_t size = size_class(bytes);
    live_ -= bytes;
    LORIKEET_FORBID(block, size);
    free_[size].push_back(block);
    if (size > kLargestSmall) {
      cached_large_ += size;
      if (cached_large_ > std::max(peak_, kCacheFloor)) trim();
    }
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return {live_, peak_, cached_large_, limit_};
  }

  void reset_peak() {
    std::lock_guard lock(mutex_);
    peak_ = live_;
  }

  void set_limit(int64_t bytes) {
    std::lock_guard lock(mutex_);
    limit_ = bytes;
  }

  void trim_all() {
    std::lock_guard lock(mutex_);
    trim();
  }

 private:
  static constexpr int64_t kCacheFloor = int64_t{256} << 20;

  void* small(int64_t size) {
    auto& list = free_[size];
    if (list.empty()) {
      if (slab_left_ < size) {
        void* slab = map_pages(kSlab);
        if (slab == nullptr) return nullptr;
        slab_ = static_cast<char*>(slab);
        slab_left_ = kSlab;
      }
      void* block = slab_;
      slab_ += size;
      slab_left_ -= size;
      return block;
    }
    return pop(list);
  }

  void* large(int64_t size) {
    auto found = free_.find(size);
    if (found != free_.end() && !found->second.empty()) {
      cached_large_ -= size;
      return pop(found->second);
    }
    void* block = map_pages(size);
    if (block == nullptr) {
      trim();
      block = map_pages(size);
    }
    return block;
  }

  void trim() {
    for (auto entry = free_.upper_bound(kLargestSmall); entry != free_.end(); entry = free_.erase(entry)) {
      for (void* block : entry->second) {
        LORIKEET_ALLOW(block, entry->first);
        munmap(block, entry->first);
      }
    }
    cached_large_ = 0;
  }

  static void* pop(std::vector<void*>& list) {
    void* block = list.back();
    list.pop_back();
    return block;
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  char* slab_ = nullptr;
  int64_t slab_left_ = 0;
  int64_t live_ = 0, peak_ = 0, cached_large_ = 0, limit_ = 0;
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
void trim_memory() { allocator().trim_all(); }

}  // namespace lorikeet
