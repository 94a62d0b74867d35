#include "binding/packed-weight-handle.h"

#include "binding/environment.h"
#include "binding/errors.h"

namespace lorikeet {
void PackedWeightHandle::define(Napi::Env env) {
  Napi::Function constructor = DefineClass(
      env, "PackedWeightHandle",
      {InstanceAccessor<&PackedWeightHandle::shape>("shape"), InstanceAccessor<&PackedWeightHandle::dtype>("dtype"),
       InstanceAccessor<&PackedWeightHandle::bytes>("bytes"), InstanceAccessor<&PackedWeightHandle::mapped_bytes>("mappedBytes"),
       InstanceAccessor<&PackedWeightHandle::level>("level"), InstanceAccessor<&PackedWeightHandle::layout>("layout"),
       InstanceAccessor<&PackedWeightHandle::quantization>("quantization"), InstanceAccessor<&PackedWeightHandle::disposed>("disposed"),
       InstanceMethod<&PackedWeightHandle::dispose>("dispose")});
  Environment::of(env).packed_weight_class = Napi::Persistent(constructor);
}

PackedWeightHandle::PackedWeightHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<PackedWeightHandle>(info), handles_(Environment::of(info.Env()).handles) {
  handles_->packed_weights.insert(this);
}

PackedWeightHandle::~PackedWeightHandle() {
  release();
  handles_->packed_weights.erase(this);
}

void PackedWeightHandle::release() {
  if (!weight_) return;
  weight_ = nullptr;
  --handles_->in_use;
}

Napi::Value PackedWeightHandle::wrap(Napi::Env env, const PackedWeightPtr& weight) {
  Environment& environment = Environment::of(env);
  Napi::Object object = environment.packed_weight_class.New({});
  PackedWeightHandle* handle = Unwrap(object);
  handle->weight_ = weight;
  ++environment.handles->in_use;
  return object;
}

PackedWeightHandle* PackedWeightHandle::find(const Napi::Value& value) {
  return static_cast<PackedWeightHandle*>(HandleTable::find(value, Environment::of(value.Env()).handles->packed_weights));
}

PackedWeightPtr PackedWeightHandle::unwrap(const Napi::Value& value, const char* op, int argument) {
  const PackedWeightHandle* handle = find(value);
  check_argument(handle != nullptr, op, ": argument ", argument, " must be a packed weight");
  return handle->get(op);
}

const PackedWeightPtr& PackedWeightHandle::get(const char* op) const {
  check(weight_ != nullptr, ErrorCode::disposed, op, ": this packed weight was disposed; pack it again");
  return weight_;
}

Napi::Value PackedWeightHandle::shape(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const PackedWeight& weight = *get("shape");
    Napi::Array array = Napi::Array::New(info.Env(), 2);
    array.Set(0u, Napi::Number::New(info.Env(), static_cast<double>(weight.outputs())));
    array.Set(1u, Napi::Number::New(info.Env(), static_cast<double>(weight.inputs())));
    return array;
  });
}

Napi::Value PackedWeightHandle::dtype(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("dtype")->dtype())); });
}

Napi::Value PackedWeightHandle::bytes(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::Number::New(info.Env(), static_cast<double>(get("bytes")->bytes())); });
}

Napi::Value PackedWeightHandle::mapped_bytes(const Napi::CallbackInfo& info) {
  return guard(info.Env(),
               [&]() -> Napi::Value { return Napi::Number::New(info.Env(), static_cast<double>(get("mappedBytes")->mapped_bytes())); });
}

Napi::Value PackedWeightHandle::level(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("level")->level())); });
}

Napi::Value PackedWeightHandle::layout(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("layout")->layout())); });
}

Napi::Value PackedWeightHandle::quantization(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const PackedWeight& weight = *get("quantization");
    const QuantizedWeightPtr& quantized = weight.quantized();
    if (weight.layout() == WeightLayout::int8) return Napi::String::New(info.Env(), name_of(Quantization::int8));
    return quantized ? Napi::String::New(info.Env(), name_of(quantized->format)) : info.Env().Undefined();
  });
}

Napi::Value PackedWeightHandle::disposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), weight_ == nullptr); }

void PackedWeightHandle::dispose(const Napi::CallbackInfo&) { release(); }

}  // namespace lorikeet
