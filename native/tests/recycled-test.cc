#include "core/recycled.h"

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/harness.h"

// Small objects that one thread makes and another drops.

namespace lorikeet {
namespace {

/// Of a size that only one test has, since blocks of one size are one another's.
template <int Words>
struct Small {
  explicit Small(int64_t value) : value(value) {}
  int64_t value;
  int64_t rest[Words] = {};
};

template <int Words>
using Smalls = std::vector<std::shared_ptr<Small<Words>>>;

template <int Words>
std::shared_ptr<Small<Words>> make(int64_t value) {
  return std::allocate_shared<Small<Words>>(Recycled<Small<Words>>(), value);
}

template <int Words>
std::set<const void*> places(const Smalls<Words>& made) {
  std::set<const void*> result;
  for (const auto& small : made) result.insert(small.get());
  return result;
}

NATIVE_TEST(recycled_across_threads) {
  constexpr int64_t kCount = 500;
  auto make_all = [] {
    Smalls<61> made;
    for (int64_t i = 0; i < kCount; ++i) made.push_back(make<61>(i));
    return made;
  };
  Smalls<61> first = make_all();
  const std::set<const void*> before = places(first);
  EXPECT(before.size() == kCount, "%zu places for %d objects", before.size(), static_cast<int>(kCount));
  std::thread([dropped = std::move(first)]() mutable { dropped.clear(); }).join();

  // What ended with the thread, its last incomplete batch included, serves the next objects.
  const Smalls<61> second = make_all();
  EXPECT(places(second) == before, "objects did not go where others had been dropped");
  for (int64_t i = 0; i < kCount; ++i)
    EXPECT(second[i]->value == i, "object %d holds %d", static_cast<int>(i), static_cast<int>(second[i]->value));
}

NATIVE_TEST(recycled_while_others_are_made) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong] {
      Smalls<63> kept;
      for (int64_t i = 0; i < 20000; ++i) {
        kept.push_back(make<63>(i));
        if (kept.size() < 300) continue;
        for (size_t k = 0; k < kept.size(); ++k) wrong += kept[k]->value != i + 1 - 300 + static_cast<int64_t>(k);
        kept.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(wrong == 0, "%d objects were changed by others", wrong.load());
}

}  // namespace
}  // namespace lorikeet
