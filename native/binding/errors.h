#pragma once

#include <napi.h>

#include <exception>

namespace lorikeet {

/// The JavaScript error for a native one: our classes through the factory that lib/native.ts registers.
Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& error);

/// Runs fn and turns every C++ exception into a JavaScript one.
template <class F>
auto guard(Napi::Env env, const F& fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, std::current_exception());
  }
}

}  // namespace lorikeet
