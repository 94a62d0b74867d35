#include "core/memory.h"

#include <vector>

#include "tests/harness.h"

namespace lorikeet {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

/// Takes `total` bytes in blocks of one size, then gives all back.
void use(int64_t block, int64_t total) {
  std::vector<void*> blocks;
  for (int64_t taken = 0; taken < total; taken += block) blocks.push_back(allocate_memory(block));
  for (void* each : blocks) release_memory(each, block);
}

NATIVE_TEST(memory_of_small_blocks_serves_other_sizes) {
  trim_memory();
  int64_t before = memory_stats().cached;
  for (int64_t block = 4096; block <= kMebibyte; block += block / 4) use(block, 24 * kMebibyte);
  // Without reuse each of the 25 sizes would keep its own 24 MiB.
  EXPECT(memory_stats().cached - before <= 96 * kMebibyte, "cached %ld MiB", static_cast<long>(memory_stats().cached / kMebibyte));
  trim_memory();
  EXPECT(memory_stats().cached <= before + 16 * kMebibyte, "cached %ld MiB", static_cast<long>(memory_stats().cached / kMebibyte));
}

NATIVE_TEST(memory_of_small_blocks_in_use_is_left_alone) {
  constexpr int64_t kBlock = 100'000;
  std::vector<char*> kept;
  for (int i = 0; i < 400; ++i) {
    auto* block = static_cast<char*>(allocate_memory(kBlock));
    block[0] = block[kBlock - 1] = static_cast<char>(i);
    if (i % 100 == 0)
      kept.push_back(block);
    else
      release_memory(block, kBlock);
  }
  use(50'000, 64 * kMebibyte);
  trim_memory();
  for (size_t i = 0; i < kept.size(); ++i) {
    auto expected = static_cast<char>(i * 100);
    EXPECT(kept[i][0] == expected && kept[i][kBlock - 1] == expected, "block %zu changed", i);
    release_memory(kept[i], kBlock);
  }
}

}  // namespace
}  // namespace lorikeet
