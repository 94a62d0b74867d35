#pragma once

// The elementwise families: one row per op, used by the op list, the CPU kernels and the CUDA kernels.

namespace lorikeet {

/// Unary ops and what their derivative is computed from: X(name, saves) with saves one of input, output, nothing.
/// `nothing` means the derivative is zero everywhere.
// clang-format off
#define LORIKEET_UNARY_OPS(X)                                                                                             \
  X(affine, input) X(neg, input) X(exp, output) X(log, input) X(log1p, input) X(sqrt, output) X(rsqrt, output)            \
  X(square, input) X(reciprocal, output) X(abs, input) X(sign, nothing) X(sin, input) X(cos, input) X(tanh, output)       \
  X(sigmoid, output) X(relu, output) X(gelu, input) X(geluTanh, input) X(silu, input) X(softplus, input)                  \
  X(logSigmoid, input) X(pow, input) X(clamp, input) X(erf, input) X(floor, nothing) X(round, nothing)
// clang-format on

/// Binary ops on operands of one dtype, with broadcasting.
#define LORIKEET_BINARY_OPS(X) X(add) X(sub) X(mul) X(div) X(maximum) X(minimum)

/// Comparisons and logic: operands of one dtype, result bool.
#define LORIKEET_COMPARE_OPS(X) X(equal) X(notEqual) X(less) X(lessEqual) X(greater) X(greaterEqual) X(logicalAnd) X(logicalOr)

#define LORIKEET_ENUM_ROW(name, ...) name##_op,
enum class UnaryOp : int { LORIKEET_UNARY_OPS(LORIKEET_ENUM_ROW) count };
enum class BinaryOp : int { LORIKEET_BINARY_OPS(LORIKEET_ENUM_ROW) count };
enum class CompareOp : int { LORIKEET_COMPARE_OPS(LORIKEET_ENUM_ROW) count };
#undef LORIKEET_ENUM_ROW

#define LORIKEET_NAME_ROW(name, ...) #name,
inline constexpr const char* kUnaryNames[] = {LORIKEET_UNARY_OPS(LORIKEET_NAME_ROW)};
inline constexpr const char* kBinaryNames[] = {LORIKEET_BINARY_OPS(LORIKEET_NAME_ROW)};
inline constexpr const char* kCompareNames[] = {LORIKEET_COMPARE_OPS(LORIKEET_NAME_ROW)};
#undef LORIKEET_NAME_ROW

}  // namespace lorikeet
