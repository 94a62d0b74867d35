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

/// Aligned pages from the system, or null.
void* map_pages(int64_t bytes, int64_t alignment) {
  void* raw = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto start = reinterpret_cast<uintptr_t>(raw);
  auto aligned = (start + alignment - 1) / alignment * alignment;
  if (aligned > start) munmap(raw, aligned - start);
  auto tail = start + bytes + alignment - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
#if defined(MADV_HUGEPAGE)
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<void*>(aligned);
}

/// Pages that small blocks of all sizes are cut from, one after the other. Once no block is in use they can be cut anew.
struct Slab {
  int64_t used = 0;
  int64_t live_blocks = 0;
};

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
    if (size <= kLargestSmall) {
      --slabs_[slab_of(block)].live_blocks;
      small_in_use_ -= size;
    } else {
      cached_large_ += size;
      if (cached_large_ > std::max(peak_, kCacheFloor)) trim();
    }
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    int64_t cached_small = static_cast<int64_t>(slabs_.size()) * kSlab - small_in_use_;
    return {live_, peak_, cached_large_ + cached_small, limit_};
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
    void* block = nullptr;
    if (!list.empty()) {
      block = pop(list);
    } else {
      if (current_ == nullptr || slabs_[current_].used + size > kSlab) current_ = unused_slab();
      if (current_ == nullptr) return nullptr;
      block = current_ + slabs_[current_].used;
      slabs_[current_].used += size;
    }
    ++slabs_[slab_of(block)].live_blocks;
    small_in_use_ += size;
    return block;
  }

  static char* slab_of(void* block) { return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(block) / kSlab * kSlab); }

  /// A slab without blocks: one whose blocks are all free, or a new one; null when the system has none left.
  char* unused_slab() {
    for (auto& [data, slab] : slabs_) {
      if (slab.live_blocks > 0) continue;
      forget_blocks(data);
      slab.used = 0;
      return data;
    }
    auto* data = static_cast<char*>(map_pages(kSlab, kSlab));
    if (data != nullptr) slabs_[data] = {};
    return data;
  }

  /// Takes the blocks of a slab out of the lists of free ones.
  void forget_blocks(const char* data) {
    auto end = free_.upper_bound(kLargestSmall);
    for (auto entry = free_.begin(); entry != end; ++entry) {
      std::erase_if(entry->second, [data](void* block) { return slab_of(block) == data; });
    }
  }

  void* large(int64_t size) {
    auto found = free_.find(size);
    if (found != free_.end() && !found->second.empty()) {
      cached_large_ -= size;
      return pop(found->second);
    }
    void* block = map_pages(size, kHugePage);
    if (block == nullptr) {
      trim();
      block = map_pages(size, kHugePage);
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
    std::erase_if(slabs_, [this](const auto& entry) {
      if (entry.second.live_blocks > 0) return false;
      forget_blocks(entry.first);
      if (current_ == entry.first) current_ = nullptr;
      LORIKEET_ALLOW(entry.first, kSlab);
      munmap(entry.first, kSlab);
      return true;
    });
  }

  static void* pop(std::vector<void*>& list) {
    void* block = list.back();
    list.pop_back();
    return block;
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  std::map<char*, Slab> slabs_;
  char* current_ = nullptr;
  int64_t small_in_use_ = 0;
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
