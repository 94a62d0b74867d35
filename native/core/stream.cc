#include "core/stream.h"

#include <cstdlib>

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
  std::unique_lock lock(mutex_);
  not_full_.wait(lock, [this] { return queue_.size() < kQueueLimit || stopping_; });
  if (stopping_) return;
  queue_.push_back(std::move(work));
  lock.unlock();
  not_empty_.notify_one();
}

void Stream::wait() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !busy_) || stopping_; });
}

void Stream::stop() {
  std::deque<Work> dropped;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  not_empty_.notify_all();
  not_full_.notify_all();
  idle_.notify_all();
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
  std::unique_lock lock(mutex_);
  while (true) {
    not_empty_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (stopping_) return;
    {
      Work work = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      not_full_.notify_one();
      execute(work);
      // The references of the work go here, on this thread: memory returns to the pool in program order.
    }
    lock.lock();
    busy_ = false;
    if (queue_.empty()) idle_.notify_all();
  }
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
