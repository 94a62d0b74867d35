#include "binding/environment.h"

#include "binding/errors.h"

namespace lorikeet {

uint64_t CallbackTable::add(const Napi::Function& function) {
  drain();
  functions_[next_] = Napi::Persistent(function);
  return next_++;
}

Napi::Function CallbackTable::get(uint64_t id) { return functions_.at(id).Value(); }

void CallbackTable::release_later(uint64_t id) {
  std::lock_guard lock(mutex_);
  released_.push_back(id);
}

void CallbackTable::clear() { functions_.clear(); }

void CallbackTable::drain() {
  std::lock_guard lock(mutex_);
  for (uint64_t id : released_) functions_.erase(id);
  released_.clear();
}

Environment::Environment(Napi::Env env) : env_(env) {
  mailbox_ = Mailbox::New(env, "lorikeet", 0, 1, this);
  mailbox_.Unref(env);
  Stream::set_current(&stream_);
}

Environment::~Environment() { stop(); }

void Environment::stop() {
  if (stopped_) return;
  stopped_ = true;
  stream_.stop();
  mailbox_.Release();
  callbacks->clear();
  Stream::set_current(nullptr);
}

Napi::Promise Environment::await(uint64_t& id, Resolve resolve) {
  id = next_id_++;
  auto deferred = Napi::Promise::Deferred::New(env_);
  if (pending_.empty()) mailbox_.Ref(env_);
  pending_.emplace(id, Pending{deferred, std::move(resolve)});
  return deferred.Promise();
}

void Environment::complete(Completion* completion) {
  if (mailbox_.NonBlockingCall(completion) != napi_ok) delete completion;
}

void Environment::deliver(Napi::Env env, Napi::Function, Environment* self, Completion* raw) {
  std::unique_ptr<Completion> completion(raw);
  // No environment: teardown, nobody is waiting any more.
  if (env == nullptr || self->stopped_) return;
  auto found = self->pending_.find(completion->id);
  if (found == self->pending_.end()) return;
  Pending pending = std::move(found->second);
  self->pending_.erase(found);
  if (self->pending_.empty()) self->mailbox_.Unref(env);
  if (completion->error) {
    pending.deferred.Reject(to_js_error(env, completion->error).Value());
    return;
  }
  try {
    pending.deferred.Resolve(pending.resolve(env, completion->bytes));
  } catch (const Napi::Error& error) {
    pending.deferred.Reject(error.Value());
  }
}

}  // namespace lorikeet
