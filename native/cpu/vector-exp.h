#pragma once

#include "cpu/simd.h"
#include "cpu/vector-math.h"

namespace lorikeet::LORIKEET_LEVEL {

/// 2^x in every lane for x <= 127, 0 below -126.5; NaN stays itself. 2^r = 1 + r q(r) on |r| <= 1/2 by a polynomial of `Degree`, minimax in
/// the relative error: 2e-9 (float rounding stays) for degree 6, 9e-8 for degree 5, 3e-6 for degree 4.
template <int Degree>
LORIKEET_INLINE Vector<float> exp2_of(Vector<float> x) {
  static_assert(Degree >= 4 && Degree <= 6);
  using Words [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = uint32_t;
  const Vector<float> round = splat(0x1.8p23f + 127.0f);  // adding it rounds to an integer that stands, plus 127, in the low bits
  const Vector<float> y = larger(splat(-127.0f), x);
  const Vector<float> shifted = y + round;
  const Vector<float> r = y - (shifted - round);
  Vector<float> q;
  if constexpr (Degree == 6) {
    q = fma(splat(0x1.41fbbcp-13f), r, splat(0x1.5f3e52p-10f));
    q = fma(q, r, splat(0x1.3b2d4cp-7f));
    q = fma(q, r, splat(0x1.c6aee8p-5f));
    q = fma(q, r, splat(0x1.ebfbdcp-3f));
    q = fma(q, r, splat(0x1.62e430p-1f));
  } else if constexpr (Degree == 5) {
    q = fma(splat(0x1.5bda40p-10f), r, splat(0x1.3ce8acp-7f));
    q = fma(q, r, splat(0x1.c6b6d8p-5f));
    q = fma(q, r, splat(0x1.ebf9c2p-3f));
    q = fma(q, r, splat(0x1.62e42ap-1f));
  } else {
    q = fma(splat(0x1.3a02ccp-7f), r, splat(0x1.c9fc46p-5f));
    q = fma(q, r, splat(0x1.ec0378p-3f));
    q = fma(q, r, splat(0x1.62e12cp-1f));
  }
  return fma(q, r, splat(1.0f)) * (Vector<float>)((Words)shifted << 23);
}

template <int Degree>
LORIKEET_INLINE Vector<double> exp2_of(Vector<double> x) {
  for (int lane = 0; lane < kVectorWidth<double>; ++lane) x[lane] = __builtin_exp2(x[lane]);
  return x;
}

/// e^x in every lane for x <= 88, 0 below -88; NaN stays itself. As accurate as vexp.
LORIKEET_INLINE Vector<float> exp_of(Vector<float> x) {
  using Words [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = uint32_t;
  const Vector<float> round = splat(0x1.8p23f + 127.0f);
  const Vector<float> y = larger(splat(-88.0f), x);
  const Vector<float> shifted = fma(y, splat(0x1.715476p+0f), round);
  const Vector<float> n = shifted - round;
  // ln 2 in two parts; n times the first is exact
  const Vector<float> r = fma(n, splat(-0x1.7f7d1cp-20f), fma(n, splat(-0x1.62e4p-1f), y));
  // e^r = 1 + r + r^2 q(r) on |r| <= ln 2 / 2
  Vector<float> q = fma(splat(0.001381459853f), r, splat(0.008368716878f));
  q = fma(q, r, splat(0.04166838805f));
  q = fma(q, r, splat(0.1666652063f));
  q = fma(q, r, splat(0.4999999345f));
  return (splat(1.0f) + fma(q, r * r, r)) * (Vector<float>)((Words)shifted << 23);
}

LORIKEET_INLINE Vector<double> exp_of(Vector<double> x) {
  for (int lane = 0; lane < kVectorWidth<double>; ++lane) x[lane] = vexp(x[lane]);
  return x;
}

/// 1 / (1 + e^-x) in every lane, accurate also where it is close to 0.
LORIKEET_INLINE Vector<float> sigmoid_of(Vector<float> x) {
  const Vector<float> e = exp_of(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : splat(1.0f)) / (splat(1.0f) + e);
}
LORIKEET_INLINE Vector<double> sigmoid_of(Vector<double> x) {
  for (int lane = 0; lane < kVectorWidth<double>; ++lane) x[lane] = vsigmoid(x[lane]);
  return x;
}

/// The same where the result is rounded to 16 bits: within 2^-17 of its value.
LORIKEET_INLINE Vector<float> rough_sigmoid_of(Vector<float> x) {
  const Vector<float> limit = splat(126.0f), t = x * splat(-0x1.715476p+0f);
  const Vector<float> sum = splat(1.0f) + exp2_of<4>(t > limit ? limit : t);
#if defined(__AVX512F__)
  // One Newton step from 14 bits.
  const Vector<float> r = (Vector<float>)_mm512_maskz_rcp14_ps(0xffff, (__m512)sum);
  return r * fma(-sum, r, splat(2.0f));
#else
  return splat(1.0f) / sum;
#endif
}

/// The one that is as accurate as results stored in T need.
template <class T>
LORIKEET_INLINE Vector<compute_t<T>> sigmoid_for(Vector<compute_t<T>> x) {
  if constexpr (sizeof(T) == 2) {
    return rough_sigmoid_of(x);
  } else {
    return sigmoid_of(x);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
