#pragma once

#include "cpu/level.h"

// exp, log, tanh, sigmoid and erf of a float as straight-line code without branches or table look-ups: a loop over them becomes vector
// code, and a scalar tail gives the same bits as the vector body because it is the same expression. Errors stay below 2.5 ulp (vexp and
// vlog below 1) at every level; infinities, NaN, signed zeros and subnormals are handled. The double overloads call the C library.
// Polynomials are minimax fits on the ranges named.

namespace lorikeet::LORIKEET_LEVEL {

/// e^x; 0 below -103.97, infinity above 88.72.
LORIKEET_INLINE float vexp(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer that stands in the low bits
  float y = x < -104.0f ? -104.0f : x;
  y = y > 89.0f ? 89.0f : y;
  float shifted = fma(y, 0x1.715476p+0f, kRound);
  float n = shifted - kRound;
  float r = fma(n, -0x1.62e4p-1f, y);  // ln 2 in two parts; n times the first is exact
  r = fma(n, -0x1.7f7d1cp-20f, r);
  // e^r = 1 + r + r^2 q(r) on |r| <= ln 2 / 2
  float q = fma(0.001381459853f, r, 0.008368716878f);
  q = fma(q, r, 0.04166838805f);
  q = fma(q, r, 0.1666652063f);
  q = fma(q, r, 0.4999999345f);
  float p = 1.0f + fma(q, r * r, r);
  // 2^n in two halves, so that results may be subnormal or overflow in the last product only.
  int32_t exponent = static_cast<int32_t>(float_to_bits(shifted) - float_to_bits(kRound));
  int32_t half = exponent >> 1;
  float scale0 = bits_to_float(static_cast<uint32_t>(half + 127) << 23);
  float scale1 = bits_to_float(static_cast<uint32_t>(exponent - half + 127) << 23);
  return p * scale0 * scale1;
}

/// Natural logarithm: -infinity at 0, NaN below.
LORIKEET_INLINE float vlog(float x) {
  constexpr uint32_t kSqrtHalf = 0x3f3504f3u;  // bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2))
  bool subnormal = x < 0x1p-126f;
  float y = subnormal ? x * 0x1p25f : x;
  uint32_t bits = float_to_bits(y) - kSqrtHalf;
  int32_t exponent = (static_cast<int32_t>(bits) >> 23) - (subnormal ? 25 : 0);
  float f = bits_to_float((bits & 0x007fffffu) + kSqrtHalf) - 1.0f;
  // log(1 + f) = 2 atanh(s) = f - s (f - s^2 q(s^2)), s = f / (2 + f), |s| <= 0.1716
  float s = f / (2.0f + f);
  float z = s * s;
  float q = fma(0.298730732f, z, 0.3997749559f);
  q = fma(q, z, 0.6666677672f);
  float n = static_cast<float>(exponent);
  float low = fma(n, -0x1.7f7d1cp-20f, s * fma(-z, q, f));
  float result = fma(n, 0x1.62e4p-1f, f - low);
  result = x == 0.0f ? -__builtin_inff() : result;
  result = x < 0.0f ? __builtin_nanf("") : result;
  // Infinity and NaN stay themselves.
  return x < __builtin_inff() ? result : x;
}

LORIKEET_INLINE float vtanh(float x) {
  float t = __builtin_fabsf(x);
  // tanh x = x + x z q(z), z = x^2, for |x| <= 0.625
  float z = x * x;
  float q = fma(-0.005717043445f, z, 0.02065058577f);
  q = fma(q, z, -0.05374349759f);
  q = fma(q, z, 0.1333149128f);
  q = fma(q, z, -0.3333328393f);
  float small = fma(q * z, t, t);
  float large = 1.0f - 2.0f / (1.0f + vexp(t + t));
  return __builtin_copysignf(t <= 0.625f ? small : large, x);
}

/// 1 / (1 + e^-x), accurate also where it is close to 0.
LORIKEET_INLINE float vsigmoid(float x) {
  float e = vexp(-__builtin_fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

LORIKEET_INLINE float verf(float x) {
  float t = __builtin_fabsf(x);
  // erf x = x + x q(x^2) for |x| <= 1
  float z = t < 1.0f ? x * x : 1.0f;
  float q = fma(7.889123076e-5f, z, -0.0008020842385f);
  q = fma(q, z, 0.005189535468f);
  q = fma(q, z, -0.02685444466f);
  q = fma(q, z, 0.1128360018f);
  q = fma(q, z, -0.3761262714f);
  q = fma(q, z, 0.1283791659f);
  float small = fma(q, x, x);
  // erf x = 1 - e^(t g(t)) for 1 <= t <= 4; it rounds to 1 from there on
  float u = t > 4.0f ? 4.0f : t;
  float g = fma(-1.396227776e-5f, u, 0.0003505903698f);
  g = fma(g, u, -0.003757470033f);
  g = fma(g, u, 0.02401005418f);
  g = fma(g, u, -0.1065308486f);
  g = fma(g, u, -0.6349695413f);
  g = fma(g, u, -1.128694334f);
  float large = 1.0f - vexp(g * u);
  return t <= 1.0f ? small : __builtin_copysignf(large, x);
}

LORIKEET_INLINE double vexp(double x) { return __builtin_exp(x); }
LORIKEET_INLINE double vlog(double x) { return __builtin_log(x); }
LORIKEET_INLINE double vtanh(double x) { return __builtin_tanh(x); }
LORIKEET_INLINE double vsigmoid(double x) {
  double e = __builtin_exp(-__builtin_fabs(x));
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}
LORIKEET_INLINE double verf(double x) { return __builtin_erf(x); }

}  // namespace lorikeet::LORIKEET_LEVEL
