#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/stream.h"

namespace lorikeet {

/// JavaScript functions held by native objects. A native object may die on the engine thread, where no Node-API object may be touched: it
/// only leaves its number here, and the reference is dropped at the next call on the JavaScript thread.
class CallbackTable {
 public:
  uint64_t add(const Napi::Function& function);
  Napi::Function get(uint64_t id);
  void release_later(uint64_t id);
  void clear();

 private:
  void drain();

  std::unordered_map<uint64_t, Napi::FunctionReference> functions_;
  uint64_t next_ = 1;
  std::mutex mutex_;
  std::vector<uint64_t> released_;
};

/// One JavaScript function, callable on the JavaScript thread, destructible on any.
class Callback {
 public:
  Callback(std::shared_ptr<CallbackTable> table, const Napi::Function& function) : table_(std::move(table)), id_(table_->add(function)) {}
  ~Callback() { table_->release_later(id_); }
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  Napi::Function get() const { return table_->get(id_); }

 private:
  std::shared_ptr<CallbackTable> table_;
  uint64_t id_;
};

/// The handles of one environment, shared with them: a handle may outlive its environment. Node-API hands out the pointer of whatever an
/// object wraps; only one that stands here is a handle of ours. (A type tag says the same at many times the cost of a call.)
struct HandleTable {
  std::unordered_set<const void*> tensors, packed_weights;
  /// Those that were not disposed.
  int64_t in_use = 0;

  /// What `value` wraps, if it is one of `known`, else null.
  static void* find(const Napi::Value& value, const std::unordered_set<const void*>& known) {
    void* wrapped = nullptr;
    if (napi_unwrap(value.Env(), value, &wrapped) != napi_ok) return nullptr;
    return known.contains(wrapped) ? wrapped : nullptr;
  }
};

/// What the engine thread sends back: the end of an awaited read or wait.
struct Completion {
  uint64_t id;
  std::exception_ptr error;
  std::vector<char> bytes;
};

/// Everything of one JavaScript environment (main thread or worker).
class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  /// A promise settled by complete(id, ...) from the engine thread; `resolve` turns the bytes into the value on the JavaScript thread.
  using Resolve = std::function<Napi::Value(Napi::Env, const std::vector<char>&)>;
  Napi::Promise await(uint64_t& id, Resolve resolve);
  void complete(Completion* completion);

  /// Stops the stream; called by the cleanup hook before the environment goes.
  void stop();

  Napi::FunctionReference tensor_class;
  Napi::FunctionReference packed_weight_class;
  Napi::FunctionReference error_factory;
  std::shared_ptr<CallbackTable> callbacks = std::make_shared<CallbackTable>();
  std::shared_ptr<HandleTable> handles = std::make_shared<HandleTable>();

 private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    Resolve resolve;
  };
  static void deliver(Napi::Env env, Napi::Function, Environment* self, Completion* completion);
  using Mailbox = Napi::TypedThreadSafeFunction<Environment, Completion, &Environment::deliver>;

  Napi::Env env_;
  std::unordered_map<uint64_t, Pending> pending_;
  uint64_t next_id_ = 1;
  Mailbox mailbox_;
  Stream stream_;
  bool stopped_ = false;
};

}  // namespace lorikeet
