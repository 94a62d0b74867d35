#include <napi.h>

#include "binding/bind.h"
#include "binding/environment.h"
#include "core/autograd.h"
#include "core/device.h"
#include "core/kernel.h"
#include "core/memory.h"
#include "core/parallel.h"

// Entry of the addon: environment, classes, engine controls and all registered ops.

namespace lorikeet {
namespace {

/// Raised together with lib/native.ts whenever the two sides must match.
constexpr int kAbiVersion = 1;

std::vector<BindFunction>& parts() {
  static std::vector<BindFunction> list;
  return list;
}

/// A tensor from a typed array (copied): f32, f64, i64, i32, u8 and bool as they are; bf16 and f16 from their 16-bit patterns in a
/// Uint16Array.
Napi::Value from_typed_array(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    note_host_value();
    check_argument(info[0].IsTypedArray(), "tensor: argument 1 must be a typed array");
    Napi::TypedArray array = info[0].As<Napi::TypedArray>();
    DType dtype = Convert<DType>::from(info[1], {"tensor", 2});
    Shape shape = Convert<Shape>::from(info[2], {"tensor", 3});
    check_argument(static_cast<int64_t>(array.ElementSize()) == size_of(dtype), "tensor: the array's elements do not fit ", name_of(dtype),
                   "; got ", array.ElementSize(), " bytes each, expected ", size_of(dtype));
    check_shape(static_cast<int64_t>(array.ElementLength()) == shape.numel(), "tensor: wrong number of elements; got ",
                array.ElementLength(), ", expected ", shape.numel(), " for shape ", to_string(shape));
    Tensor x = empty(shape, dtype);
    x.storage()->materialize();
    if (array.ByteLength() > 0) {
      std::memcpy(x.raw(), static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength());
    }
    return TensorHandle::wrap(info.Env(), x);
  });
}

/// Records a TypeScript function as one op: (name, inputs, outputs, backward(output gradients, wanted) -> input gradients).
void record_custom(const Napi::CallbackInfo& info) {
  guard(info.Env(), [&] {
    std::string name = Convert<std::string>::from(info[0], {"customGrad", 1});
    Tensors inputs = Convert<Tensors>::from(info[1], {"customGrad", 2});
    Tensors outputs = Convert<Tensors>::from(info[2], {"customGrad", 3});
    check_argument(info[3].IsFunction(), "customGrad: argument 4 must be a function");
    if (!needs_record(inputs)) return;
    auto callback = std::make_shared<Callback>(Environment::of(info.Env()).callbacks, info[3].As<Napi::Function>());
    record("customGrad", inputs, outputs, [callback, env = info.Env(), count = inputs.size()](const Tensors& dy, const Wanted& wanted) {
      Napi::HandleScope handles(env);
      Napi::Array wanted_array = Napi::Array::New(env, wanted.size());
      for (uint32_t i = 0; i < wanted.size(); ++i) wanted_array.Set(i, Napi::Boolean::New(env, wanted[i]));
      Napi::Value answer = callback->get().Call({Convert<Tensors>::to(env, dy), wanted_array});
      check_argument(answer.IsArray() && answer.As<Napi::Array>().Length() == count,
                     "customGrad: backward must return one gradient (or undefined) per input; expected ", count);
      Tensors gradients;
      for (uint32_t i = 0; i < count; ++i) {
        Napi::Value value = answer.As<Napi::Array>().Get(i);
        gradients.push_back(value.IsUndefined() || value.IsNull() ? Tensor() : TensorHandle::unwrap(value, "customGrad", 1));
      }
      return gradients;
    });
  });
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    uint64_t id;
    Napi::Promise promise = environment.await(id, [](Napi::Env env, const std::vector<char>&) -> Napi::Value { return env.Undefined(); });
    Stream::current().push({"synchronize",
                            {},
                            {},
                            nullptr,
                            [&environment, id](std::exception_ptr error) {
                              environment.complete(new Completion{id, error, {}});
                            },
                            {}});
    return promise;
  });
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  MemoryStats stats = memory_stats();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("tensors", Napi::Number::New(info.Env(), static_cast<double>(Environment::of(info.Env()).handles->in_use)));
  result.Set("bytes", Napi::Number::New(info.Env(), static_cast<double>(stats.live)));
  result.Set("peakBytes", Napi::Number::New(info.Env(), static_cast<double>(stats.peak)));
  result.Set("cachedBytes", Napi::Number::New(info.Env(), static_cast<double>(stats.cached)));
  result.Set("limitBytes", Napi::Number::New(info.Env(), static_cast<double>(stats.limit)));
  return result;
}

void set_isa_level(const std::string& name) {
  for (int i = 0; i < kLevels; ++i) {
    if (name != name_of(static_cast<Level>(i))) continue;
    Stream::current().wait();
    set_active_level(static_cast<Level>(i));
    return;
  }
  fail(ErrorCode::invalid_argument, "setIsaLevel: unknown level; got \"", name, "\"");
}

std::string isa_level() { return name_of(active_level()); }
std::string machine_isa_level() { return name_of(machine_level()); }
int64_t threads() { return thread_count(); }
void set_threads(int64_t count) {
  check_argument(count >= 1 && count <= 1024, "setThreads: out of range; got ", count, ", expected 1 to 1024");
  Stream::current().wait();
  set_thread_count(static_cast<int>(count));
}
bool set_recording(bool on) { return NoGrad::set_recording(on); }
std::string cuda_reason() {
  const char* reason = cuda_unavailable_reason();
  return reason != nullptr ? reason : "";
}
std::string cuda_description() { return cuda_backend().describe(); }
/// Runs after the work that is queued, so that what this work releases goes too.
void queue_trim() {
  Stream::current().push({"trimMemory", {}, {}, [] { trim_memory(); }, nullptr, {}});
}
void wait_for_stream() { Stream::current().wait(); }

void bind_controls(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(set_isa_level, "setIsaLevel")
  OP(isa_level, "isaLevel")
  OP(machine_isa_level, "machineIsaLevel")
  OP(threads, "threads")
  OP(set_threads, "setThreads")
  OP(set_recording, "setRecording")
  OP(recording, "recording")
  OP(set_memory_limit, "setMemoryLimit")
  OP(reset_peak_memory, "resetPeakMemory")
  OP(queue_trim, "trimMemory")
  OP(cuda_reason, "cudaUnavailableReason")
  OP(cuda_description, "cudaDescription")
  OP(wait_for_stream, "waitForStream")
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  fill_kernel_slots();
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  env.AddCleanupHook([environment] { environment->stop(); });

  TensorHandle::define(env, exports);
  exports.Set("abiVersion", Napi::Number::New(env, kAbiVersion));
  exports.Set("fromTypedArray", Napi::Function::New(env, from_typed_array));
  exports.Set("recordCustom", Napi::Function::New(env, record_custom));
  exports.Set("synchronize", Napi::Function::New(env, synchronize));
  exports.Set("memory", Napi::Function::New(env, memory));
  exports.Set("setErrorFactory", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                Environment::of(info.Env()).error_factory = Napi::Persistent(info[0].As<Napi::Function>());
              }));

  Signatures signatures;
  Napi::Object ops = Napi::Object::New(env);
  bind_controls(env, ops, signatures);
  for (BindFunction bind : parts()) bind(env, ops, signatures);
  Napi::Object described = Napi::Object::New(env);
  for (const auto& [name, signature] : signatures) described.Set(name, signature);
  exports.Set("ops", ops);
  exports.Set("signatures", described);
  Napi::Object unions = Napi::Object::New(env);
  auto add_union = [&]<class E>() {
    Napi::Array names = Napi::Array::New(env);
    uint32_t i = 0;
    for (const char* name : EnumStrings<E>::names) names.Set(i++, name);
    unions.Set(EnumStrings<E>::type, names);
  };
  add_union.template operator()<UnaryOp>();
  add_union.template operator()<BinaryOp>();
  add_union.template operator()<CompareOp>();
  add_union.template operator()<ReduceOp>();
  add_union.template operator()<DType>();
  add_union.template operator()<Device>();
  exports.Set("unions", unions);
  return exports;
}

}  // namespace

BindingPart::BindingPart(BindFunction function) { parts().push_back(function); }

}  // namespace lorikeet

static Napi::Object initialize(Napi::Env env, Napi::Object exports) { return lorikeet::init(env, exports); }
NODE_API_MODULE(lorikeet, initialize)
