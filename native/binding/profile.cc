#include "binding/bind.h"

// The profile of a stream: which ops ran, when and for how long.

namespace lorikeet {

template <>
struct Convert<ProfiledTensor> {
  static constexpr const char* type = "{ dtype: DType; shape: readonly number[] }";
  static Napi::Value to(Napi::Env env, const ProfiledTensor& tensor) {
    Napi::Array shape = Napi::Array::New(env);
    uint32_t dim = 0;
    for (int64_t size : tensor.shape) shape.Set(dim++, Napi::Number::New(env, static_cast<double>(size)));
    Napi::Object result = Napi::Object::New(env);
    result.Set("dtype", Napi::String::New(env, name_of(tensor.dtype)));
    result.Set("shape", shape);
    return result;
  }
};

template <>
struct Convert<ProfiledOp> {
  static constexpr const char* type =
      "{ name: string; backward: boolean; start: number; ms: number; inputs: readonly ({ dtype: DType; shape: readonly number[] } | "
      "undefined)[]; outputs: readonly ({ dtype: DType; shape: readonly number[] } | undefined)[] }";
  static Napi::Value to(Napi::Env env, const ProfiledOp& op) {
    Napi::Object result = Napi::Object::New(env);
    result.Set("name", Napi::String::New(env, op.name));
    result.Set("backward", Napi::Boolean::New(env, op.backward));
    result.Set("start", Napi::Number::New(env, op.start));
    result.Set("ms", Napi::Number::New(env, op.duration));
    result.Set("inputs", list(env, op.inputs));
    result.Set("outputs", list(env, op.outputs));
    return result;
  }

 private:
  static Napi::Array list(Napi::Env env, const std::vector<std::optional<ProfiledTensor>>& tensors) {
    Napi::Array result = Napi::Array::New(env, tensors.size());
    for (uint32_t i = 0; i < tensors.size(); ++i) {
      result.Set(i, tensors[i] ? Convert<ProfiledTensor>::to(env, *tensors[i]) : env.Undefined());
    }
    return result;
  }
};

namespace {

void start_profile() { Stream::current().start_profile(); }

std::vector<ProfiledOp> stop_profile() { return Stream::current().stop_profile(); }

}  // namespace

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(start_profile, "startProfile")
  OP(stop_profile, "stopProfile")
}

static BindingPart part(bind);

}  // namespace lorikeet
