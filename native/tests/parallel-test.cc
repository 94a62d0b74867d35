#include "core/parallel.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>
#include <chrono>
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

#if defined(__linux__)
// Threads that the system put on one CPU spread over those that they may use.
NATIVE_TEST(pool_threads_work_on_cpus_of_their_own) {
  cpu_set_t allowed;
  EXPECT(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "no affinity");
  if (CPU_COUNT(&allowed) < 2) return;
  set_thread_count(2);
  // Every task waits for the other one, so each thread runs one.
  auto job = [](auto task_of) {
    std::atomic<int> arrived{0};
    parallel_for(2, [&](int64_t task) {
      task_of(task);
      arrived.fetch_add(1);
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
      while (arrived.load() < 2 && std::chrono::steady_clock::now() < end) {
      }
    });
  };
  const int here = sched_getcpu();
  job([&](int64_t) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(here, &only);
    sched_setaffinity(0, sizeof only, &only);
    sched_setaffinity(0, sizeof allowed, &allowed);
  });
  bool apart = false;
  for (int round = 0; round < 50 && !apart; ++round) {
    int cpus[2] = {-1, -1};
    job([&](int64_t task) { cpus[task] = sched_getcpu(); });
    apart = cpus[0] != cpus[1];
  }
  EXPECT(apart, "both threads stay on CPU %d", here);
}
#endif

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
