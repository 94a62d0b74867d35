#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace lorikeet {

/// Memory in segments mapped from the system on huge pages, cut into blocks: the smallest free block that fits is split, and neighbours
/// that are free become one again. So sizes that differ from step to step share the same pages. Segments stay mapped until `trim()`. Not
/// thread-safe.
class Heap {
 public:
  /// `bytes` in whole small pages, page-aligned, contents undefined; null when the system has none left.
  void* allocate(int64_t bytes);
  void release(void* block);
  /// Gives free segments, and the free huge pages of the others, back to the system.
  void trim();
  /// Bytes of all segments.
  int64_t mapped() const { return mapped_; }

 private:
  struct Block {
    int64_t size;
    bool free;
    bool first;  // of its segment
  };
  using Blocks = std::map<char*, Block>;

  Blocks::iterator map_segment(int64_t size);
  void split(Blocks::iterator block, int64_t size);
  bool is_whole_segment(Blocks::iterator block) const;

  Blocks blocks_;                             // all of them, by address
  std::set<std::pair<int64_t, char*>> free_;  // by size, then address
  int64_t mapped_ = 0;
};

}  // namespace lorikeet
