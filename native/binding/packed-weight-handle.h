#pragma once

#include <napi.h>

#include <memory>

#include "binding/convert.h"
#include "ops/packed-weight.h"

namespace lorikeet {

/// The JavaScript object that owns a share of one packed weight. Recorded products own their own shares.
class PackedWeightHandle : public Napi::ObjectWrap<PackedWeightHandle> {
 public:
  static void define(Napi::Env env);
  static Napi::Value wrap(Napi::Env env, const PackedWeightPtr& weight);
  /// The weight of a JavaScript argument; throws `op: argument i ...` for anything else, or a disposed error.
  static PackedWeightPtr unwrap(const Napi::Value& value, const char* op, int argument);
  /// The handle that `value` is, or null.
  static PackedWeightHandle* find(const Napi::Value& value);

  explicit PackedWeightHandle(const Napi::CallbackInfo& info);
  ~PackedWeightHandle() override;

 private:
  const PackedWeightPtr& get(const char* op) const;
  void release();

  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value mapped_bytes(const Napi::CallbackInfo& info);
  Napi::Value level(const Napi::CallbackInfo& info);
  Napi::Value quantization(const Napi::CallbackInfo& info);
  Napi::Value layout(const Napi::CallbackInfo& info);
  Napi::Value disposed(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  PackedWeightPtr weight_;
  std::shared_ptr<HandleTable> handles_;
};

template <>
struct Convert<PackedWeightPtr> {
  static constexpr const char* type = "PackedWeightHandle";
  static PackedWeightPtr from(const Napi::Value& value, Place place) { return PackedWeightHandle::unwrap(value, place.op, place.argument); }
  static Napi::Value to(Napi::Env env, const PackedWeightPtr& weight) { return PackedWeightHandle::wrap(env, weight); }
};

}  // namespace lorikeet
