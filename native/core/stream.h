#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/capture.h"
#include "core/profile.h"
#include "core/tensor.h"

namespace lorikeet {

/// One unit of work: reads `inputs`, writes `outputs`, runs on the engine thread in program order.
struct Work {
  const char* name;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::function<void()> run;
  /// Set for observers (reads, waits): called even when inputs are poisoned, with their error or null.
  std::function<void(std::exception_ptr)> finish;
  /// The JavaScript stack of the call, under LORIKEET_DEBUG=1.
  std::string call_site = {};
  /// Queued by a backward; filled in by push.
  bool backward = false;
};

/// True when LORIKEET_DEBUG=1: bindings then note the stack of every call with set_call_site.
bool debug_call_sites();
void set_call_site(std::string stack);

/// The CPU stream of one JavaScript environment: a bounded queue and the thread that runs it. CUDA work is launched from the same thread.
class Stream {
 public:
  Stream();
  ~Stream();

  /// Adds work; blocks while the queue is full. JavaScript thread.
  void push(Work work);
  /// Waits until everything pushed so far has run.
  void wait();
  /// Drops queued work and joins the thread: environment teardown.
  void stop();

  /// Notes every op from here on, until stop_profile returns the notes in program order. Both wait for the queue to empty first.
  void start_profile();
  std::vector<ProfiledOp> stop_profile();

  /// The stream of this thread's environment; throws when the thread has none.
  static Stream& current();
  static void set_current(Stream* stream);

 private:
  void loop();
  /// Moves everything queued to `batch`, after waiting for something; false when the stream stops.
  bool take(std::vector<Work>& batch);
  void execute(Work& work);
  /// Notes that one more work has run, and wakes who waits for it.
  void finished_one();
  /// Waits until `count` works have run.
  void wait_for(uint64_t count);
  static std::string describe(const Work& work, const char* message);

  std::mutex mutex_;
  std::condition_variable not_empty_, reached_;
  std::vector<Work> queue_;
  /// The engine thread waits on not_empty_.
  bool asleep_ = false;
  std::atomic<bool> stopping_{false};
  /// Works pushed, and run, since the start. A waiting thread leaves the count it waits for in awaited_.
  std::atomic<uint64_t> pushed_{0}, finished_{0}, awaited_{kNobody};
  static constexpr uint64_t kNobody = ~uint64_t{0};
  /// Set and taken only while the stream is idle; null when no profile runs.
  std::unique_ptr<Profile> profile_;
  std::thread thread_;
};

/// While one lives on the JavaScript thread, queued work counts as work of a backward.
class BackwardScope {
 public:
  BackwardScope();
  ~BackwardScope();
  BackwardScope(const BackwardScope&) = delete;
  BackwardScope& operator=(const BackwardScope&) = delete;

 private:
  bool previous_;
};

/// Queues `run` on the current stream. When an input is poisoned, or `run` throws, all outputs are poisoned with the error. Storages of
/// `outputs` have memory when `run` is called; it captures the tensors it needs by value and reads their pointers inside. All tensors must
/// be on the CPU; throws `name: no cuda kernel in this build` otherwise.
void enqueue(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, std::function<void()> run);

/// The same for ops that choose their kernel by device (Kernel::on).
void enqueue_on_device(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, std::function<void()> run);

/// What ops call, with a lambda: the above, and a note for the capture under way. `run` must do the same each time it is called.
template <class Run>
void enqueue(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, Run run) {
  std::function<void()> body = std::move(run);
  note_for_capture(outputs, body);
  enqueue(name, std::move(inputs), std::move(outputs), std::move(body));
}
template <class Run>
void enqueue_on_device(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, Run run) {
  std::function<void()> body = std::move(run);
  note_for_capture(outputs, body);
  enqueue_on_device(name, std::move(inputs), std::move(outputs), std::move(body));
}

}  // namespace lorikeet
