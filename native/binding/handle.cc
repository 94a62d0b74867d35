#include "binding/handle.h"

#include <cstring>

#include "binding/environment.h"
#include "binding/errors.h"
#include "core/autograd.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

/// What reading hands to JavaScript: contiguous, on the CPU, 16-bit floats widened.
Tensor readable(const Tensor& x) {
  NoGrad no_grad;
  Tensor y = to_device(x.detach(), Device::cpu);
  if (y.dtype() == DType::bf16 || y.dtype() == DType::f16) y = cast(y, DType::f32);
  return contiguous(y);
}

Napi::Value typed_array(Napi::Env env, DType dtype, const char* bytes, size_t size) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, size);
  if (size > 0) std::memcpy(buffer.Data(), bytes, size);
  size_t n = size / size_of(dtype);
  switch (dtype) {
    case DType::f64: return Napi::Float64Array::New(env, n, buffer, 0);
    case DType::i64: return Napi::BigInt64Array::New(env, n, buffer, 0);
    case DType::i32: return Napi::Int32Array::New(env, n, buffer, 0);
    case DType::u8:
    case DType::bool_: return Napi::Uint8Array::New(env, n, buffer, 0);
    default: return Napi::Float32Array::New(env, n, buffer, 0);
  }
}

}  // namespace

void TensorHandle::define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor =
      DefineClass(env, "TensorHandle",
                  {InstanceAccessor<&TensorHandle::shape>("shape"), InstanceAccessor<&TensorHandle::dtype>("dtype"),
                   InstanceAccessor<&TensorHandle::device>("device"), InstanceAccessor<&TensorHandle::disposed>("disposed"),
                   InstanceAccessor<&TensorHandle::requires_grad>("requiresGrad"), InstanceAccessor<&TensorHandle::version>("version"),
                   InstanceMethod<&TensorHandle::set_requires_grad>("setRequiresGrad"), InstanceMethod<&TensorHandle::grad>("grad"),
                   InstanceMethod<&TensorHandle::set_grad>("setGrad"), InstanceMethod<&TensorHandle::set_hook>("setHook"),
                   InstanceMethod<&TensorHandle::backward>("backward"), InstanceMethod<&TensorHandle::detach>("detach"),
                   InstanceMethod<&TensorHandle::read>("read"), InstanceMethod<&TensorHandle::read_sync>("readSync"),
                   InstanceMethod<&TensorHandle::report_size>("reportSize"), InstanceMethod<&TensorHandle::dispose>("dispose")});
  Environment::of(env).tensor_class = Napi::Persistent(constructor);
  exports.Set("TensorHandle", constructor);
}

TensorHandle::TensorHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<TensorHandle>(info), handles_(Environment::of(info.Env()).handles) {
  handles_->tensors.insert(this);
}

TensorHandle::~TensorHandle() {
  release();
  handles_->tensors.erase(this);
}

void TensorHandle::release() {
  if (!tensor_.defined()) return;
  tensor_ = Tensor();
  --handles_->in_use;
  if (reported_ > 0) Napi::MemoryManagement::AdjustExternalMemory(Env(), -reported_);
}

void TensorHandle::report_size(const Napi::CallbackInfo& info) {
  if (!tensor_.defined() || reported_ > 0) return;
  reported_ = tensor_.numel() * size_of(tensor_.dtype());
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_);
}

Napi::Value TensorHandle::wrap(Napi::Env env, const Tensor& tensor) {
  if (!tensor.defined()) return env.Undefined();
  Environment& environment = Environment::of(env);
  Napi::Object object = environment.tensor_class.New({});
  TensorHandle* handle = Unwrap(object);
  handle->tensor_ = tensor;
  ++environment.handles->in_use;
  return object;
}

TensorHandle* TensorHandle::find(const Napi::Value& value) {
  return static_cast<TensorHandle*>(HandleTable::find(value, Environment::of(value.Env()).handles->tensors));
}

Tensor TensorHandle::unwrap(const Napi::Value& value, const char* op, int argument) {
  const TensorHandle* handle = find(value);
  check_argument(handle != nullptr, op, ": argument ", argument, " must be a tensor");
  return handle->get(op);
}

const Tensor& TensorHandle::get(const char* op) const {
  check(tensor_.defined(), ErrorCode::disposed, op, ": this tensor was disposed; create it again or keep it in a wider scope");
  return tensor_;
}

Napi::Value TensorHandle::shape(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const Shape& sizes = get("shape").shape();
    Napi::Array array = Napi::Array::New(info.Env(), sizes.rank());
    for (int i = 0; i < sizes.rank(); ++i) array.Set(i, Napi::Number::New(info.Env(), static_cast<double>(sizes[i])));
    return array;
  });
}

Napi::Value TensorHandle::dtype(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("dtype").dtype())); });
}

Napi::Value TensorHandle::device(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("device").device())); });
}

Napi::Value TensorHandle::disposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !tensor_.defined()); }

Napi::Value TensorHandle::requires_grad(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value { return Napi::Boolean::New(info.Env(), lorikeet::requires_grad(get("requiresGrad"))); });
}

Napi::Value TensorHandle::version(const Napi::CallbackInfo& info) {
  return guard(info.Env(),
               [&]() -> Napi::Value { return Napi::Number::New(info.Env(), static_cast<double>(get("version").storage()->version)); });
}

void TensorHandle::set_requires_grad(const Napi::CallbackInfo& info) {
  guard(info.Env(), [&] { lorikeet::set_requires_grad(get("requiresGrad"), info[0].ToBoolean()); });
}

Napi::Value TensorHandle::grad(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const auto& meta = get("grad").autograd();
    return wrap(info.Env(), meta ? meta->grad : Tensor());
  });
}

void TensorHandle::set_grad(const Napi::CallbackInfo& info) {
  guard(info.Env(), [&] {
    const auto& meta = get("grad").autograd();
    check_argument(meta && meta->is_leaf, "grad: only a leaf that requires a gradient has one");
    Tensor value = info[0].IsUndefined() ? Tensor() : unwrap(info[0], "grad", 1);
    check_shape(!value.defined() || value.shape() == tensor_.shape(), "grad: the shape differs from the tensor's; got ",
                value.defined() ? to_string(value.shape()) : "", ", expected ", to_string(tensor_.shape()));
    meta->grad = value.defined() ? value.detach() : value;
  });
}

void TensorHandle::set_hook(const Napi::CallbackInfo& info) {
  guard(info.Env(), [&] {
    const auto& meta = get("onGrad").autograd();
    check_argument(meta && meta->is_leaf, "onGrad: only a leaf that requires a gradient can have a hook");
    if (!info[0].IsFunction()) {
      meta->hook = nullptr;
      return;
    }
    auto callback = std::make_shared<Callback>(Environment::of(info.Env()).callbacks, info[0].As<Napi::Function>());
    meta->hook = [callback, env = info.Env()](const Tensor& gradient) -> Tensor {
      Napi::Value answer = callback->get().Call({wrap(env, gradient)});
      if (answer.IsNull()) return Tensor();
      if (answer.IsUndefined()) return gradient;
      return unwrap(answer, "onGrad", 1);
    };
  });
}

void TensorHandle::backward(const Napi::CallbackInfo& info) {
  guard(info.Env(), [&] {
    Tensor gradient = info[0].IsUndefined() ? Tensor() : unwrap(info[0], "backward", 1);
    Tensor root = get("backward");
    lorikeet::backward(root, gradient);
  });
}

Napi::Value TensorHandle::detach(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return wrap(info.Env(), get("detach").detach()); });
}

Napi::Value TensorHandle::read(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    note_host_value();
    Tensor x = readable(get("data"));
    uint64_t id;
    Napi::Promise promise = environment.await(id, [dtype = x.dtype()](Napi::Env env, const std::vector<char>& bytes) {
      return typed_array(env, dtype, bytes.data(), bytes.size());
    });
    auto completion = std::make_shared<Completion>();
    Stream::current().push({"data",
                            {x},
                            {},
                            [x, completion] {
                              auto start = x.data<char>();
                              completion->bytes.assign(start, start + x.numel() * size_of(x.dtype()));
                            },
                            [&environment, id, completion](std::exception_ptr error) {
                              environment.complete(new Completion{id, error, std::move(completion->bytes)});
                            },
                            {}});
    return promise;
  });
}

Napi::Value TensorHandle::read_sync(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    note_host_value();
    Tensor x = readable(get("dataSync"));
    std::exception_ptr failure;
    Stream::current().push({"dataSync", {x}, {}, nullptr, [&failure](std::exception_ptr error) { failure = error; }, {}});
    Stream::current().wait();
    if (failure) std::rethrow_exception(failure);
    return typed_array(info.Env(), x.dtype(), x.data<char>(), x.numel() * size_of(x.dtype()));
  });
}

void TensorHandle::dispose(const Napi::CallbackInfo&) { release(); }

}  // namespace lorikeet
