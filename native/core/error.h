#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace lorikeet {

/// What kind of failure an Error is; the binding maps each to one JavaScript class.
enum class ErrorCode {
  invalid_argument,
  shape,
  out_of_memory,
  disposed,
  device,
  cancelled,
  non_finite,
  io,
  internal,
};

/// Every failure of the native side. Messages read `op: what is wrong; got ..., expected ...`.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws an Error whose message is the parts written one after the other.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

template <class... Parts>
void check(bool ok, ErrorCode code, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    fail(code, parts...);
  }
}

template <class... Parts>
void check_shape(bool ok, const Parts&... parts) {
  check(ok, ErrorCode::shape, parts...);
}

template <class... Parts>
void check_argument(bool ok, const Parts&... parts) {
  check(ok, ErrorCode::invalid_argument, parts...);
}

}  // namespace lorikeet
