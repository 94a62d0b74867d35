#include "core/stream.h"

#include <cstdlib>

#include "core/spin.h"

namespace lorikeet {
namespace {

constexpr size_t kQueueLimit = 8192;

thread_local Stream* current_stream = nullptr;
thread_local std::string current_call_site;
thread_local bool in_backward = false;

}  // namespace

bool debug_call_sites() {
  static const bool on = [] {
    const char* value = std::getenv("LORIKEET_DEBUG");
    return value != nullptr && std::string(value) == "1";
  }();
  return on;
}

void set_call_site(std::string stack) { current_call_site = std::move(stack); }

BackwardScope::BackwardScope() : previous_(in_backward) { in_backward = true; }
BackwardScope::~BackwardScope() { in_backward = previous_; }

Stream::Stream() : thread_([this] { loop(); }) {}

Stream::~Stream() { stop(); }

void Stream::push(Work work) {
  if (debug_call_sites()) work.call_site = current_call_site;
  work.backward = in_backward;
  const uint64_t count = pushed_.load(std::memory_order_relaxed) + 1;
  if (count - finished_.load(std::memory_order_relaxed) > kQueueLimit) wait_for(count - kQueueLimit / 2);
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(work));
    pushed_.store(count, std::memory_order_relaxed);
    wake = asleep_;
  }
  if (wake) not_empty_.notify_one();
}

void Stream::wait() { wait_for(pushed_.load(std::memory_order_relaxed)); }

void Stream::wait_for(uint64_t count) {
  auto reached = [&] { return finished_.load() >= count || stopping_; };
  std::unique_lock lock(mutex_);
  awaited_.store(count);
  reached_.wait(lock, reached);
  awaited_.store(kNobody);
}

void Stream::finished_one() {
  const uint64_t count = finished_.load(std::memory_order_relaxed) + 1;
  finished_.store(count);
  if (count < awaited_.load()) return;
  { std::lock_guard lock(mutex_); }
  reached_.notify_all();
}

void Stream::stop() {
  std::vector<Work> dropped;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  not_empty_.notify_all();
  reached_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Stream::start_profile() {
  wait();
  std::lock_guard lock(mutex_);
  check_argument(profile_ == nullptr, "profile: one is running already");
  profile_ = std::make_unique<Profile>();
}

std::vector<ProfiledOp> Stream::stop_profile() {
  wait();
  std::lock_guard lock(mutex_);
  check_argument(profile_ != nullptr, "profile: none is running");
  std::vector<ProfiledOp> ops = profile_->take();
  profile_.reset();
  return ops;
}

Stream& Stream::current() {
  check(current_stream != nullptr, ErrorCode::internal, "stream: this thread has no JavaScript environment");
  return *current_stream;
}

void Stream::set_current(Stream* stream) { current_stream = stream; }

void Stream::loop() {
  std::vector<Work> batch;
  while (take(batch)) {
    for (Work& work : batch) {
      if (stopping_) return;
      execute(work);
      // The references of the work go here, on this thread: memory returns to the pool in program order.
      work = {};
      finished_one();
    }
    batch.clear();
  }
}

bool Stream::take(std::vector<Work>& batch) {
  const uint64_t taken = finished_.load(std::memory_order_relaxed);
  spin_until([&] { return pushed_.load(std::memory_order_relaxed) != taken || stopping_; });
  std::unique_lock lock(mutex_);
  asleep_ = true;
  not_empty_.wait(lock, [this] { return !queue_.empty() || stopping_; });
  asleep_ = false;
  batch.swap(queue_);
  return !stopping_;
}

void Stream::execute(Work& work) {
  std::exception_ptr error;
  for (const Tensor& input : work.inputs) {
    if (input.defined() && input.storage()->error()) {
      error = input.storage()->error();
      break;
    }
  }
  if (!error && work.run) {
    try {
      for (const Tensor& output : work.outputs) {
        if (output.defined()) output.storage()->materialize();
      }
      if (profile_ != nullptr) {
        profile_->run(work.name, work.backward, work.inputs, work.outputs, work.run);
      } else {
        work.run();
      }
    } catch (const Error& failure) {
      error = std::make_exception_ptr(Error(failure.code(), describe(work, failure.what())));
    } catch (const std::exception& failure) {
      error = std::make_exception_ptr(Error(ErrorCode::internal, describe(work, failure.what())));
    }
  }
  if (error) {
    for (const Tensor& output : work.outputs) {
      if (output.defined()) output.storage()->poison(error);
    }
  }
  if (work.finish) work.finish(error);
}

std::string Stream::describe(const Work& work, const char* message) {
  std::string text = concat(message, " (while running ", work.name);
  for (const Tensor& input : work.inputs) {
    if (input.defined()) text += concat(" ", name_of(input.dtype()), to_string(input.shape()));
  }
  text += ")";
  if (!work.call_site.empty()) text += "\ncalled at " + work.call_site;
  return text;
}

void enqueue(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, std::function<void()> run) {
  for (const auto* tensors : {&inputs, &outputs}) {
    for (const Tensor& x : *tensors) {
      check(!x.defined() || x.device() == Device::cpu, ErrorCode::device, name, ": no ", x.defined() ? name_of(x.device()) : "",
            " kernel in this build");
    }
  }
  enqueue_on_device(name, std::move(inputs), std::move(outputs), std::move(run));
}

void enqueue_on_device(const char* name, std::vector<Tensor> inputs, std::vector<Tensor> outputs, std::function<void()> run) {
  Stream::current().push({name, std::move(inputs), std::move(outputs), std::move(run), nullptr, {}});
}

}  // namespace lorikeet
