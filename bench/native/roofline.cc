// Prints what this machine reaches at best as one JSON object: register-only multiply-adds by precision, and bandwidth of L2 and of memory,
// with one thread and with all of them. The instruction level is the one in force (LORIKEET_MAX_ISA), the number of threads that of the
// engine (LORIKEET_THREADS).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/level.h"
#include "core/parallel.h"
#include "peaks.h"

namespace lorikeet::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Many short rounds: the best of them is then free of what else runs on the machine.
constexpr int kRounds = 200, kMemoryRounds = 20;
constexpr int64_t kL2Bytes = 256 << 10;      // per thread: beyond L1, well inside L2
constexpr int64_t kMemoryBytes = 192 << 20;  // in all: beyond the last cache
constexpr int64_t kLoops = 1 << 19;

/// Runs body(thread) on `threads` threads that start together; returns seconds until the last has ended, the best of some rounds.
double fastest(int threads, int rounds, const std::function<void(int)>& body) {
  double best = 1e300;
  for (int round = 0; round < rounds; ++round) {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        ready.fetch_add(1);
        while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
        body(t);
      });
    }
    while (ready.load() < threads) std::this_thread::yield();
    const Clock::time_point start = Clock::now();
    go.store(true, std::memory_order_release);
    for (std::thread& member : team) member.join();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

std::atomic<float> sink{0};
void consume(float value) { sink.store(sink.load(std::memory_order_relaxed) + value, std::memory_order_relaxed); }

double gflops(int threads, double (*flops)(int64_t, float*)) {
  if (flops == nullptr) return 0;
  double done = 0;
  const double seconds = fastest(threads, kRounds, [&](int thread) {
    float result = 0;
    const double own = flops(kLoops, &result);
    if (thread == 0) done = own;
    consume(result);
  });
  return done * threads / seconds / 1e9;
}

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float, Free>;

Buffer buffer(int64_t bytes, float first) {
  Buffer result(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(bytes))));
  for (int64_t i = 0; i < bytes / 4; ++i) result.get()[i] = first + static_cast<float>(i % 1009) * 0.001f;
  return result;
}

double read_bandwidth(const Peaks& peaks, int threads, int64_t bytes, int repeats) {
  std::vector<Buffer> data;
  for (int t = 0; t < threads; ++t) data.push_back(buffer(bytes, 0.5f));
  const double seconds = fastest(threads, bytes <= kL2Bytes ? kRounds : kMemoryRounds, [&](int t) {
    for (int r = 0; r < repeats; ++r) consume(peaks.read(data[static_cast<size_t>(t)].get(), bytes / 4));
  });
  return static_cast<double>(bytes) * threads * repeats / seconds / 1e9;
}

double triad_bandwidth(const Peaks& peaks, int threads, int64_t bytes) {
  std::vector<Buffer> a, b, c;
  for (int t = 0; t < threads; ++t) {
    a.push_back(buffer(bytes, 0));
    b.push_back(buffer(bytes, 1));
    c.push_back(buffer(bytes, 2));
  }
  const double seconds = fastest(threads, kMemoryRounds, [&](int t) {
    const auto i = static_cast<size_t>(t);
    peaks.triad(a[i].get(), b[i].get(), c[i].get(), bytes / 4);
  });
  consume(a[0].get()[1]);
  return 3.0 * static_cast<double>(bytes) * threads / seconds / 1e9;
}

void print(const char* name, double one, double all, bool last = false) {
  std::printf("  \"%s\": {\"one\": %.2f, \"all\": %.2f}%s\n", name, one, all, last ? "" : ",");
}

int run() {
  const Peaks peaks = peaks_of(active_level());
  const int all = thread_count();
  std::printf("{\n  \"level\": \"%s\", \"threads\": %d,\n", name_of(active_level()), all);
  print("f32", gflops(1, peaks.f32), gflops(all, peaks.f32));
  print("bf16", gflops(1, peaks.bf16), gflops(all, peaks.bf16));
  print("l2", read_bandwidth(peaks, 1, kL2Bytes, 500), read_bandwidth(peaks, all, kL2Bytes, 500));
  print("read", read_bandwidth(peaks, 1, kMemoryBytes, 1), read_bandwidth(peaks, all, kMemoryBytes / all / 64 * 64, 1));
  print("triad", triad_bandwidth(peaks, 1, kMemoryBytes / 3 / 64 * 64), triad_bandwidth(peaks, all, kMemoryBytes / 3 / all / 64 * 64),
        true);
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace lorikeet::bench

int main() { return lorikeet::bench::run(); }
