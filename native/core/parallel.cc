#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/cpu-count.h"
#include "core/memory.h"

namespace lorikeet {
namespace {

constexpr auto kSpinTime = std::chrono::microseconds(30);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Spins for a bounded time until `done()`; true if it came true.
template <class Done>
bool spin_until(const Done& done) {
  auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

/// Workers that wait for jobs: they spin briefly, then sleep. Never destroyed; its threads end with the process.
class Pool {
 public:
  Pool() : threads_(allowed_cpus()) { ensure_workers(); }

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void set_threads(int threads) {
    std::lock_guard job(job_mutex_);
    threads_ = threads;
    ensure_workers();
  }

  void run(int64_t tasks, TaskRef body) {
    if (tasks <= 1 || threads() == 1 || inside_task_ || !job_mutex_.try_lock()) {
      for (int64_t task = 0; task < tasks; ++task) body(task);
      return;
    }
    std::lock_guard job(job_mutex_, std::adopt_lock);
    body_ = &body;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    failure_ = nullptr;
    open_.store(true);
    generation_.fetch_add(1);
    generation_.notify_all();
    work();
    open_.store(false);
    auto all_out = [this] { return inside_.load() == 0; };
    if (!spin_until(all_out)) {
      for (int inside = inside_.load(); inside != 0; inside = inside_.load()) inside_.wait(inside);
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void ensure_workers() {
    while (static_cast<int>(started_) < threads_ - 1) {
      std::thread([this, index = started_] { loop(index); }).detach();
      ++started_;
    }
  }

  void loop(int index) {
    uint64_t seen = 0;
    while (true) {
      auto changed = [&] { return generation_.load() != seen; };
      if (!spin_until(changed)) generation_.wait(seen);
      seen = generation_.load();
      if (index >= threads_.load(std::memory_order_relaxed) - 1) continue;
      inside_.fetch_add(1);
      if (open_.load()) work();
      if (inside_.fetch_sub(1) == 1) inside_.notify_all();
    }
  }

  void work() {
    inside_task_ = true;
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) {
      try {
        (*body_)(task);
      } catch (...) {
        std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
    inside_task_ = false;
  }

  static thread_local bool inside_task_;
  std::mutex job_mutex_, failure_mutex_;
  std::atomic<int> threads_;
  int started_ = 0;
  const TaskRef* body_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> open_{false};
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> inside_{0};
  std::exception_ptr failure_;
};

thread_local bool Pool::inside_task_ = false;

Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

/// Chunks of one thread; once it knows what the thread needs, a single one.
struct Arena {
  struct Chunk {
    char* data;
    int64_t size;
    int64_t used;
  };
  std::vector<Chunk> chunks;
  int64_t used = 0, most_used = 0;  // of all chunks together

  ~Arena() {
    for (const Chunk& chunk : chunks) release_memory(chunk.data, chunk.size);
  }

  bool fits(int64_t bytes) const { return !chunks.empty() && chunks.back().size - chunks.back().used >= bytes; }

  /// A busy arena gets a further chunk for `bytes` alone; an idle one is replaced by one large enough for all that was ever used at once.
  void grow(int64_t bytes) {
    int64_t size = bytes;
    if (used == 0) {
      size = std::max(bytes, most_used);
      if (!chunks.empty()) release_memory(chunks.back().data, chunks.back().size);
      chunks.clear();
    }
    chunks.push_back({static_cast<char*>(allocate_memory(size)), size, 0});
  }
};

thread_local Arena arena;

}  // namespace

void parallel_for(int64_t tasks, TaskRef body) { pool().run(tasks, body); }
int thread_count() { return pool().threads(); }
void set_thread_count(int threads) { pool().set_threads(threads); }

Scratch::Scratch(int64_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (!arena.fits(arena.used == 0 ? std::max(bytes, arena.most_used) : bytes)) arena.grow(bytes);
  auto& chunk = arena.chunks.back();
  previous_ = chunk.used;
  data_ = chunk.data + chunk.used;
  chunk.used += bytes;
  arena.used += bytes;
  arena.most_used = std::max(arena.most_used, arena.used);
}

Scratch::~Scratch() {
  auto& chunks = arena.chunks;
  arena.used -= chunks.back().used - previous_;
  chunks.back().used = previous_;
  if (previous_ == 0 && chunks.size() > 1) {
    release_memory(chunks.back().data, chunks.back().size);
    chunks.pop_back();
  }
}

}  // namespace lorikeet
