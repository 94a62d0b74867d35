#include "core/parallel.h"

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/harness.h"

// The worker pool: every task once, whatever the number of threads, of callers and of failures.

namespace lorikeet {
namespace {

NATIVE_TEST(pool_runs_every_task_once) {
  set_thread_count(4);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::atomic<int>> runs(round % 97);
    parallel_for(static_cast<int64_t>(runs.size()), [&](int64_t task) { runs[task].fetch_add(1); });
    for (auto& count : runs) EXPECT(count == 1, "round %d, got %d", round, count.load());
  }
}

NATIVE_TEST(pool_results_are_visible_to_the_caller) {
  set_thread_count(4);
  std::vector<int64_t> out(1000);
  for (int64_t round = 0; round < 500; ++round) {
    parallel_for(1000, [&](int64_t task) { out[task] = task * round; });
    bool fresh = true;
    for (int64_t i = 0; i < 1000; ++i) fresh = fresh && out[i] == i * round;
    EXPECT(fresh, "stale values in round %d", static_cast<int>(round));
  }
}

NATIVE_TEST(pool_serves_several_callers_and_nested_calls) {
  set_thread_count(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        parallel_for(8, [&](int64_t) { parallel_for(4, [&](int64_t) { total.fetch_add(1); }); });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT(total == 4 * 200 * 8 * 4, "got %d", static_cast<int>(total.load()));
}

NATIVE_TEST(pool_passes_an_exception_on_and_survives_it) {
  set_thread_count(4);
  for (int round = 0; round < 100; ++round) {
    std::string message;
    try {
      parallel_for(64, [](int64_t task) {
        if (task == 13) throw std::runtime_error("task 13");
      });
    } catch (const std::exception& error) {
      message = error.what();
    }
    EXPECT(message == "task 13", "got \"%s\"", message.c_str());
  }
  std::atomic<int> runs{0};
  parallel_for(10, [&](int64_t) { runs.fetch_add(1); });
  EXPECT(runs == 10, "got %d", runs.load());
}

NATIVE_TEST(pool_changes_its_size_between_jobs) {
  for (int threads = 6; threads >= 1; --threads) {
    set_thread_count(threads);
    std::atomic<int> runs{0};
    parallel_for(100, [&](int64_t) { runs.fetch_add(1); });
    EXPECT(runs == 100 && thread_count() == threads, "with %d threads", threads);
  }
  set_thread_count(2);
}

// A worker that the system does not run must neither hold a job up nor reach into one that is over: its tasks and what they write to are
// gone by then.
NATIVE_TEST(pool_leaves_late_workers_behind) {
  set_thread_count(8);
  std::atomic<bool> stop{false};
  std::vector<std::thread> foreign;
  for (int i = 0; i < 2; ++i) {
    foreign.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  for (int round = 0; round < 3000; ++round) {
    std::vector<int> out(static_cast<size_t>(2 + round % 7), -1);
    parallel_for(static_cast<int64_t>(out.size()), [&](int64_t task) { out[task] = out[task] < 0 ? round : -2; });
    for (int value : out) EXPECT(value == round, "round %d, got %d", round, value);
  }
  stop = true;
  for (auto& thread : foreign) thread.join();
  set_thread_count(2);
}

NATIVE_TEST(scratch_nests_and_is_aligned) {
  for (int round = 0; round < 50; ++round) {
    Scratch outer(1000 + round * 100000);
    outer.as<char>()[0] = 1;
    {
      Scratch inner(5000000);
      inner.as<char>()[4999999] = 2;
      EXPECT(reinterpret_cast<uintptr_t>(inner.as<char>()) % 64 == 0, "round %d", round);
    }
    EXPECT(outer.as<char>()[0] == 1, "round %d", round);
  }
}

}  // namespace
}  // namespace lorikeet
