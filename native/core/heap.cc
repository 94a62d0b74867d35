#include "core/heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "core/poison.h"

namespace lorikeet {
namespace {

constexpr int64_t kPage = 4 << 10;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kSegment = 32 * kHugePage;

constexpr int64_t rounded(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Pages aligned to huge pages from the system, or null.
char* map_pages(int64_t bytes) {
  void* raw = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* start = static_cast<char*>(raw);
  char* aligned = reinterpret_cast<char*>(rounded(reinterpret_cast<int64_t>(raw), kHugePage));
  if (aligned > start) munmap(start, aligned - start);
  if (const int64_t tail = start + kHugePage - aligned; tail > 0) munmap(aligned + bytes, tail);
#if defined(MADV_HUGEPAGE)
  madvise(aligned, bytes, MADV_HUGEPAGE);
#endif
  return aligned;
}

}  // namespace

void* Heap::allocate(int64_t bytes) {
  const int64_t size = rounded(std::max<int64_t>(bytes, 1), kPage);
  const auto fit = free_.lower_bound({size, nullptr});
  auto block = fit == free_.end() ? map_segment(size) : blocks_.find(fit->second);
  if (block == blocks_.end()) return nullptr;
  free_.erase({block->second.size, block->first});
  split(block, size);
  block->second.free = false;
  return block->first;
}

/// A new segment as one free block, or the end of the blocks.
Heap::Blocks::iterator Heap::map_segment(int64_t size) {
  const int64_t bytes = std::max(kSegment, rounded(size, kHugePage));
  char* start = map_pages(bytes);
  if (start == nullptr) return blocks_.end();
  mapped_ += bytes;
  free_.insert({bytes, start});
  return blocks_.insert({start, {bytes, true, true}}).first;
}

/// Leaves `size` bytes to the block, and makes a free one of what is over.
void Heap::split(Blocks::iterator block, int64_t size) {
  const int64_t over = block->second.size - size;
  if (over == 0) return;
  block->second.size = size;
  char* rest = block->first + size;
  blocks_.insert(std::next(block), {rest, {over, true, false}});
  free_.insert({over, rest});
}

void Heap::release(void* memory) {
  auto block = blocks_.find(static_cast<char*>(memory));
  block->second.free = true;
  const auto next = std::next(block);
  if (next != blocks_.end() && next->second.free && !next->second.first) {
    free_.erase({next->second.size, next->first});
    block->second.size += next->second.size;
    blocks_.erase(next);
  }
  if (!block->second.first) {
    const auto before = std::prev(block);
    if (before->second.free) {
      free_.erase({before->second.size, before->first});
      before->second.size += block->second.size;
      blocks_.erase(block);
      block = before;
    }
  }
  free_.insert({block->second.size, block->first});
}

bool Heap::is_whole_segment(Blocks::iterator block) const {
  const auto next = std::next(block);
  return block->second.first && (next == blocks_.end() || next->second.first);
}

void Heap::trim() {
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    auto& [start, entry] = *block;
    if (!entry.free) {
      ++block;
    } else if (is_whole_segment(block)) {
      LORIKEET_ALLOW(start, entry.size);
      munmap(start, entry.size);
      mapped_ -= entry.size;
      free_.erase({entry.size, start});
      block = blocks_.erase(block);
    } else {
      const int64_t first = rounded(reinterpret_cast<int64_t>(start), kHugePage);
      const int64_t last = (reinterpret_cast<int64_t>(start) + entry.size) / kHugePage * kHugePage;
      if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
      ++block;
    }
  }
}

}  // namespace lorikeet
