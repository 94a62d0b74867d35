#pragma once

#include <cstdint>

namespace lorikeet {

/// A non-owning reference to a callable, small enough to pass by value and free of std templates (kernel files use it at every instruction
/// level).
class TaskRef {
 public:
  template <class F>
  [[gnu::always_inline]] TaskRef(const F& function)  // NOLINT: implicit by design
      : object_(&function), call_([](const void* object, int64_t task) { (*static_cast<const F*>(object))(task); }) {}
  void operator()(int64_t task) const { call_(object_, task); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t);
};

/// Calls body(t) for every t in [0, tasks), spread over the process-wide pool; returns when all are done. Which thread runs a task is not
/// fixed, so a task must own its outputs: results then do not depend on the number of threads. Nested or concurrent calls run on the
/// calling thread alone.
void parallel_for(int64_t tasks, TaskRef body);

/// Threads that work on a parallel_for, the caller included. LORIKEET_THREADS or the CPUs allowed by affinity and cgroup quota.
int thread_count();
void set_thread_count(int threads);

/// Scratch memory of the calling thread: at least `bytes`, 64-byte aligned, contents undefined. Released in reverse order of creation;
/// grows to its high-water mark and stays, so steady state allocates nothing.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  int64_t previous_;
};

}  // namespace lorikeet
