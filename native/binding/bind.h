#pragma once

#include <map>
#include <string>
#include <utility>

#include "binding/convert.h"
#include "binding/errors.h"
#include "core/stream.h"

namespace lorikeet {

/// name -> TypeScript signature of every bound op; scripts/generate-op-types.mjs writes lib/native-ops.ts from it.
using Signatures = std::map<std::string, std::string>;

/// Binds a C++ function: arity, conversions and the TypeScript signature follow from its type.
template <auto Function, class Type = decltype(Function)>
struct Bound;

template <auto Function, class Result, class... Arguments>
struct Bound<Function, Result (*)(Arguments...)> {
  template <size_t... I>
  static Napi::Value call(const Napi::CallbackInfo& info, const char* name, std::index_sequence<I...>) {
    return guard(info.Env(), [&]() -> Napi::Value {
      check_argument(info.Length() <= sizeof...(Arguments), name, ": too many arguments; got ", info.Length(), ", expected ",
                     sizeof...(Arguments));
      CallSite site(info.Env());
      std::tuple<std::decay_t<Arguments>...> arguments{
          Convert<std::decay_t<Arguments>>::from(info[I], Place{name, static_cast<int>(I) + 1})...};
      if constexpr (std::is_void_v<Result>) {
        Function(std::get<I>(arguments)...);
        return info.Env().Undefined();
      } else {
        return Convert<std::decay_t<Result>>::to(info.Env(), Function(std::get<I>(arguments)...));
      }
    });
  }

  static std::string signature() {
    std::string text = "(";
    int index = 0;
    ((text += (index > 0 ? ", a" : "a") + std::to_string(index) + ": " + type_of<std::decay_t<Arguments>>(), ++index), ...);
    return text + ") => " + type_of<std::decay_t<Result>>();
  }

  static void add(Napi::Env env, Napi::Object exports, Signatures& signatures, const char* name) {
    exports.Set(name, Napi::Function::New(
                          env,
                          [](const Napi::CallbackInfo& info) {
                            return call(info, static_cast<const char*>(info.Data()), std::index_sequence_for<Arguments...>{});
                          },
                          name, const_cast<char*>(name)));
    signatures[name] = signature();
  }

 private:
  /// Under LORIKEET_DEBUG=1 remembers the JavaScript stack, so that work that fails later can name its call.
  struct CallSite {
    explicit CallSite(Napi::Env env) {
      if (!debug_call_sites()) return;
      Napi::Object error = env.Global().Get("Error").As<Napi::Function>().New({});
      set_call_site(error.Get("stack").ToString().Utf8Value());
    }
    ~CallSite() {
      if (debug_call_sites()) set_call_site({});
    }
  };
};

/// What one binding file adds to the addon.
using BindFunction = void (*)(Napi::Env env, Napi::Object exports, Signatures& signatures);

/// Registers a binding file with the addon, so that no central list names them.
struct BindingPart {
  explicit BindingPart(BindFunction function);
};

}  // namespace lorikeet

#define OP(function, name) ::lorikeet::Bound<&function>::add(env, exports, signatures, name);
