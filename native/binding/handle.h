#pragma once

#include <napi.h>

#include <memory>

#include "core/tensor.h"

namespace lorikeet {

struct HandleTable;

/// The JavaScript object that owns a share of one tensor. Disposing it never breaks a backward: the graph owns its own shares.
class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Value wrap(Napi::Env env, const Tensor& tensor);
  /// The tensor of a JavaScript argument; throws `op: argument i ...` for anything else, or a disposed error.
  static Tensor unwrap(const Napi::Value& value, const char* op, int argument);
  /// The handle that `value` is, or null.
  static TensorHandle* find(const Napi::Value& value);

  explicit TensorHandle(const Napi::CallbackInfo& info);
  ~TensorHandle() override;

 private:
  const Tensor& get(const char* op) const;
  void release();

  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value disposed(const Napi::CallbackInfo& info);
  Napi::Value requires_grad(const Napi::CallbackInfo& info);
  Napi::Value version(const Napi::CallbackInfo& info);
  void set_requires_grad(const Napi::CallbackInfo& info);
  Napi::Value grad(const Napi::CallbackInfo& info);
  void set_grad(const Napi::CallbackInfo& info);
  void set_hook(const Napi::CallbackInfo& info);
  void backward(const Napi::CallbackInfo& info);
  Napi::Value detach(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_sync(const Napi::CallbackInfo& info);
  /// Tells the garbage collector how large the tensor is, so that it runs when handles are dropped without dispose.
  void report_size(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  Tensor tensor_;
  /// Bytes told to the garbage collector.
  int64_t reported_ = 0;
  std::shared_ptr<HandleTable> handles_;
};

}  // namespace lorikeet
