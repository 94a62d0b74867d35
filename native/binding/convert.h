#pragma once

#include <napi.h>

#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "binding/handle.h"
#include "core/elementwise.h"
#include "core/error.h"
#include "ops/reduce.h"

namespace lorikeet {

/// Where an argument stands, for messages.
struct Place {
  const char* op;
  int argument;
};

template <class... Parts>
[[noreturn]] void fail_argument(Place place, const Parts&... parts) {
  fail(ErrorCode::invalid_argument, place.op, ": argument ", place.argument, " ", parts...);
}

/// How one C++ type crosses the boundary: from(value, place), to(env, value), and its name in TypeScript.
template <class T>
struct Convert;

template <>
struct Convert<Tensor> {
  static constexpr const char* type = "TensorHandle";
  static Tensor from(const Napi::Value& value, Place place) { return TensorHandle::unwrap(value, place.op, place.argument); }
  static Napi::Value to(Napi::Env env, const Tensor& tensor) { return TensorHandle::wrap(env, tensor); }
};

template <>
struct Convert<double> {
  static constexpr const char* type = "number";
  static double from(const Napi::Value& value, Place place) {
    if (!value.IsNumber()) fail_argument(place, "must be a number");
    return value.As<Napi::Number>().DoubleValue();
  }
  static Napi::Value to(Napi::Env env, double value) { return Napi::Number::New(env, value); }
};

template <>
struct Convert<int64_t> {
  static constexpr const char* type = "number";
  static int64_t from(const Napi::Value& value, Place place) {
    double number = Convert<double>::from(value, place);
    if (!(std::abs(number) <= 9007199254740991.0) || number != std::floor(number)) fail_argument(place, "must be an integer; got ", number);
    return static_cast<int64_t>(number);
  }
  static Napi::Value to(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }
};

/// Seeds and counters: 64 bits, so a number or a bigint.
template <>
struct Convert<uint64_t> {
  static constexpr const char* type = "number | bigint";
  static uint64_t from(const Napi::Value& value, Place place) {
    if (value.IsBigInt()) {
      bool lossless = false;
      return value.As<Napi::BigInt>().Uint64Value(&lossless);
    }
    return static_cast<uint64_t>(Convert<int64_t>::from(value, place));
  }
};

template <>
struct Convert<bool> {
  static constexpr const char* type = "boolean";
  static bool from(const Napi::Value& value, Place place) {
    if (!value.IsBoolean()) fail_argument(place, "must be a boolean");
    return value.As<Napi::Boolean>().Value();
  }
  static Napi::Value to(Napi::Env env, bool value) { return Napi::Boolean::New(env, value); }
};

template <>
struct Convert<std::string> {
  static constexpr const char* type = "string";
  static std::string from(const Napi::Value& value, Place place) {
    if (!value.IsString()) fail_argument(place, "must be a string");
    return value.As<Napi::String>().Utf8Value();
  }
  static Napi::Value to(Napi::Env env, const std::string& value) { return Napi::String::New(env, value); }
};

/// Enumerations cross as strings; a specialisation names the TypeScript type and the strings in order of value.
template <class E>
struct EnumStrings;
template <>
struct EnumStrings<UnaryOp> {
  static constexpr const char* type = "UnaryName";
  static constexpr auto& names = kUnaryNames;
};
template <>
struct EnumStrings<BinaryOp> {
  static constexpr const char* type = "BinaryName";
  static constexpr auto& names = kBinaryNames;
};
template <>
struct EnumStrings<CompareOp> {
  static constexpr const char* type = "CompareName";
  static constexpr auto& names = kCompareNames;
};
template <>
struct EnumStrings<ReduceOp> {
  static constexpr const char* type = "ReduceName";
  static constexpr auto& names = kReduceNames;
};
inline constexpr const char* kDTypeNames[] = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8", "bool"};
template <>
struct EnumStrings<DType> {
  static constexpr const char* type = "DType";
  static constexpr auto& names = kDTypeNames;
};
inline constexpr const char* kDeviceNames[] = {"cpu", "cuda"};
template <>
struct EnumStrings<Device> {
  static constexpr const char* type = "Device";
  static constexpr auto& names = kDeviceNames;
};

template <class E>
requires requires { EnumStrings<E>::type; }
struct Convert<E> {
  static constexpr const char* type = EnumStrings<E>::type;
  static E from(const Napi::Value& value, Place place) {
    std::string text = Convert<std::string>::from(value, place);
    int index = 0;
    for (const char* name : EnumStrings<E>::names) {
      if (text == name) return static_cast<E>(index);
      ++index;
    }
    fail_argument(place, "is not a ", type, "; got \"", text, "\"");
  }
  static Napi::Value to(Napi::Env env, E value) { return Napi::String::New(env, EnumStrings<E>::names[static_cast<int>(value)]); }
};

template <class T>
struct Convert<std::vector<T>> {
  static const std::string& type_name() {
    static const std::string name = std::string("readonly (") + Convert<T>::type + ")[]";
    return name;
  }
  static std::vector<T> from(const Napi::Value& value, Place place) {
    if (!value.IsArray()) fail_argument(place, "must be an array");
    Napi::Array array = value.As<Napi::Array>();
    std::vector<T> result;
    result.reserve(array.Length());
    for (uint32_t i = 0; i < array.Length(); ++i) result.push_back(Convert<T>::from(array.Get(i), place));
    return result;
  }
  static Napi::Value to(Napi::Env env, const std::vector<T>& values) {
    Napi::Array array = Napi::Array::New(env, values.size());
    for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, Convert<T>::to(env, values[i]));
    return array;
  }
};

template <>
struct Convert<Shape> {
  static constexpr const char* type = "readonly number[]";
  static Shape from(const Napi::Value& value, Place place) {
    Shape shape;
    for (int64_t size : Convert<std::vector<int64_t>>::from(value, place)) shape.push_back(size);
    return shape;
  }
};

/// An argument that may be undefined or null.
template <class T>
struct Convert<std::optional<T>> {
  static const std::string& type_name() {
    static const std::string name = std::string(Convert<T>::type) + " | undefined";
    return name;
  }
  static std::optional<T> from(const Napi::Value& value, Place place) {
    if (value.IsUndefined() || value.IsNull()) return std::nullopt;
    return Convert<T>::from(value, place);
  }
  static Napi::Value to(Napi::Env env, const std::optional<T>& value) { return value ? Convert<T>::to(env, *value) : env.Undefined(); }
};

template <class T>
std::string type_of() {
  if constexpr (std::is_void_v<T>) {
    return "void";
  } else if constexpr (requires { Convert<T>::type_name(); }) {
    return Convert<T>::type_name();
  } else {
    return Convert<T>::type;
  }
}

}  // namespace lorikeet
