#include "core/heap.h"

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tests/harness.h"

// The heap under the allocator: blocks never overlap, free neighbours become one, sizes that change share memory.

namespace lorikeet {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct Owned {
  char* data;
  int64_t size;
  char mark;
};

bool intact(const Owned& block) {
  for (int64_t i = 0; i < block.size; i += 1000) {
    if (block.data[i] != block.mark) return false;
  }
  return block.data[block.size - 1] == block.mark;
}

NATIVE_TEST(heap_blocks_never_overlap) {
  Heap heap;
  std::mt19937 random(1);
  std::vector<Owned> owned;
  for (int round = 0; round < 4000; ++round) {
    if (owned.empty() || random() % 5 < 3) {
      int64_t size = 1 + static_cast<int64_t>(random() % (round % 400 == 0 ? 90 * kMiB : kMiB));
      Owned block{static_cast<char*>(heap.allocate(size)), size, static_cast<char>(random())};
      EXPECT(reinterpret_cast<uintptr_t>(block.data) % 4096 == 0, "address %p", static_cast<void*>(block.data));
      std::memset(block.data, block.mark, static_cast<size_t>(size));
      owned.push_back(block);
    } else {
      std::swap(owned[random() % owned.size()], owned.back());
      EXPECT(intact(owned.back()), "round %d", round);
      heap.release(owned.back().data);
      owned.pop_back();
    }
    if (owned.size() > 100 || round % 500 == 0) heap.trim();
    while (owned.size() > 60) {
      EXPECT(intact(owned.back()), "round %d", round);
      heap.release(owned.back().data);
      owned.pop_back();
    }
  }
  for (const Owned& block : owned) {
    EXPECT(intact(block), "at the end");
    heap.release(block.data);
  }
  heap.trim();
  EXPECT(heap.mapped() == 0, "got %ld", static_cast<long>(heap.mapped()));
}

NATIVE_TEST(heap_joins_free_neighbours) {
  Heap heap;
  std::vector<void*> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(heap.allocate(kMiB));
  const int64_t mapped = heap.mapped();
  for (int i = 0; i < 64; i += 2) heap.release(blocks[i]);
  for (int i = 1; i < 64; i += 2) heap.release(blocks[i]);
  void* whole = heap.allocate(64 * kMiB);
  EXPECT(heap.mapped() == mapped, "got %ld, expected %ld", static_cast<long>(heap.mapped()), static_cast<long>(mapped));
  heap.release(whole);
}

NATIVE_TEST(heap_shares_memory_between_changing_sizes) {
  Heap heap;
  void* kept[8];
  for (auto& block : kept) block = heap.allocate(5 * kMiB);
  for (int64_t step = 0; step < 200; ++step) {
    // Forty temporaries a step, alive together, of a size that the step decides: at most 80 MiB.
    const int64_t size = (step * 37 % 100 + 1) * (2 * kMiB / 100);
    std::vector<void*> blocks;
    for (int i = 0; i < 40; ++i) blocks.push_back(heap.allocate(size));
    for (void* block : blocks) heap.release(block);
  }
  EXPECT(heap.mapped() <= 192 * kMiB, "got %ld MiB", static_cast<long>(heap.mapped() / kMiB));
  for (auto& block : kept) heap.release(block);
}

NATIVE_TEST(heap_gives_free_segments_back) {
  Heap heap;
  void* large = heap.allocate(200 * kMiB);
  void* small = heap.allocate(kMiB);
  EXPECT(heap.mapped() >= 264 * kMiB, "got %ld", static_cast<long>(heap.mapped()));
  heap.release(large);
  heap.trim();
  EXPECT(heap.mapped() == 64 * kMiB, "got %ld", static_cast<long>(heap.mapped()));
  heap.release(small);
}

}  // namespace
}  // namespace lorikeet
