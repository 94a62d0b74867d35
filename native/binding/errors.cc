#include "binding/errors.h"

#include "binding/environment.h"
#include "core/error.h"

namespace lorikeet {
namespace {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid-argument";
    case ErrorCode::shape: return "shape";
    case ErrorCode::out_of_memory: return "out-of-memory";
    case ErrorCode::disposed: return "disposed";
    case ErrorCode::device: return "device";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::non_finite: return "non-finite";
    case ErrorCode::io: return "format";
    case ErrorCode::internal: return "internal";
  }
  return "internal";
}

Napi::Error make(Napi::Env env, const char* code, const std::string& message) {
  Environment& environment = Environment::of(env);
  if (environment.error_factory.IsEmpty()) return Napi::Error::New(env, message);
  Napi::Value error = environment.error_factory.Call({Napi::String::New(env, code), Napi::String::New(env, message)});
  return Napi::Error(env, error);
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& failure) {
    return make(env, code_name(failure.code()), failure.what());
  } catch (const std::bad_alloc&) {
    return make(env, "out-of-memory", "memory: the process has none left");
  } catch (const std::exception& failure) {
    return make(env, "internal", failure.what());
  }
}

}  // namespace lorikeet
