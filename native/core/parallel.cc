#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/cpu-count.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/placement.h"
#include "core/spin.h"

namespace lorikeet {
namespace {

/// What most threads need and more: an arena that began smaller would grow, and the memory in use with it, whenever a thread happens to
/// take a larger task.
constexpr int64_t kFirstChunk = 256 << 10;

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
      size = std::max({bytes, most_used, kFirstChunk});
      if (!chunks.empty()) release_memory(chunks.back().data, chunks.back().size);
      chunks.clear();
    }
    chunks.push_back({static_cast<char*>(allocate_memory(size)), size, 0});
  }
};

thread_local Arena arena;

/// Gives a thread its arena before it works, so that the memory in use does not depend on when it takes its first task.
void begin_arena() {
  try {
    arena.grow(kFirstChunk);
  } catch (const Error&) {  // the limit leaves no room: whoever needs the memory is told
  }
}

/// Workers that wait for jobs: they spin briefly, then sleep. Never destroyed; its threads end with the process.
///
/// A job is a count of tasks that nobody took yet. Whoever lowers it from above zero owns one task, so the caller waits only for tasks that
/// somebody runs: a worker that comes late, or that the system does not run at all, holds nobody up.
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
    failure_ = nullptr;
    unfinished_.store(tasks, std::memory_order_relaxed);
    untaken_.store(tasks, std::memory_order_release);
    jobs_.fetch_add(1);
    jobs_.notify_all();
    take_place(0);
    work();
    auto all_done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
    if (!spin_until(all_done)) {
      for (int64_t left = unfinished_.load(); left != 0; left = unfinished_.load()) unfinished_.wait(left);
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void ensure_workers() {
    while (started_ < threads_ - 1) {
      std::thread([this, index = started_] { loop(index); }).detach();
      ++started_;
    }
  }

  void loop(int index) {
    begin_arena();
    while (true) {
      const uint32_t seen = jobs_.load(std::memory_order_acquire);
      if (index < threads() - 1) {
        take_place_apart(index + 1);
        work();
      }
      if (spin_until([&] { return jobs_.load(std::memory_order_relaxed) != seen; })) continue;
      leave_place(index + 1);
      jobs_.wait(seen);
    }
  }

  /// The next task of the job, or -1 when all are taken. What describes the job is read only by owners of a task: it stays until they are
  /// done.
  int64_t take() {
    if (untaken_.load(std::memory_order_relaxed) <= 0) return -1;
    const int64_t left = untaken_.fetch_sub(1, std::memory_order_acquire);
    return left <= 0 ? -1 : tasks_ - left;
  }

  void work() {
    inside_task_ = true;
    int64_t done = 0;
    for (int64_t task; (task = take()) >= 0; ++done) {
      try {
        (*body_)(task);
      } catch (...) {
        std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
    inside_task_ = false;
    if (done > 0 && unfinished_.fetch_sub(done) == done) unfinished_.notify_all();
  }

  static thread_local bool inside_task_;
  std::mutex job_mutex_, failure_mutex_;
  std::atomic<int> threads_;
  int started_ = 0;
  const TaskRef* body_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> untaken_{0};
  std::atomic<int64_t> unfinished_{0};
  std::atomic<uint32_t> jobs_{0};
  std::exception_ptr failure_;
};

thread_local bool Pool::inside_task_ = false;

Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

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
