#pragma once

#include "cpu/level.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// One register of the level as a type: Vector<float>, Vector<double>.

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kSimdBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kSimdBytes = 32;
#else
inline constexpr int kSimdBytes = 16;
#endif

template <class C>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  using Aligned [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = float;
  using Unaligned [[gnu::vector_size(kSimdBytes), gnu::may_alias, gnu::aligned(4)]] = float;
};
template <>
struct VectorTypes<double> {
  using Aligned [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = double;
  using Unaligned [[gnu::vector_size(kSimdBytes), gnu::may_alias, gnu::aligned(8)]] = double;
};
template <class C>
using Vector = typename VectorTypes<C>::Aligned;

/// Elements of a Vector<C>.
template <class C>
inline constexpr int kVectorWidth = kSimdBytes / static_cast<int>(sizeof(C));

/// n rounded up to whole vectors.
template <class C>
LORIKEET_INLINE int64_t padded(int64_t n) {
  return (n + kVectorWidth<C> - 1) / kVectorWidth<C> * kVectorWidth<C>;
}

template <class C>
LORIKEET_INLINE Vector<C> load_vector(const C* p) {
  return *reinterpret_cast<const typename VectorTypes<C>::Unaligned*>(p);
}
template <class C>
LORIKEET_INLINE void store_vector(C* p, Vector<C> v) {
  *reinterpret_cast<typename VectorTypes<C>::Unaligned*>(p) = v;
}

#if defined(__AVX512F__)
LORIKEET_INLINE Vector<float> splat(float a) { return (Vector<float>)_mm512_set1_ps(a); }
LORIKEET_INLINE Vector<double> splat(double a) { return (Vector<double>)_mm512_set1_pd(a); }
LORIKEET_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
LORIKEET_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__)
LORIKEET_INLINE Vector<float> splat(float a) { return (Vector<float>)_mm256_set1_ps(a); }
LORIKEET_INLINE Vector<double> splat(double a) { return (Vector<double>)_mm256_set1_pd(a); }
LORIKEET_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
LORIKEET_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
LORIKEET_INLINE Vector<float> splat(float a) { return Vector<float>{a, a, a, a}; }
LORIKEET_INLINE Vector<double> splat(double a) { return Vector<double>{a, a}; }
#if defined(__aarch64__)
LORIKEET_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
LORIKEET_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
LORIKEET_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) { return a * b + c; }
LORIKEET_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) { return a * b + c; }
#endif
#endif

/// a > b ? a : b in every lane; b where one is not a number. (A full mask is no mask; gcc 12 warns of its own form without one.)
#if defined(__AVX512F__)
LORIKEET_INLINE Vector<float> larger(Vector<float> a, Vector<float> b) {
  return (Vector<float>)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
}
LORIKEET_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) {
  return (Vector<double>)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
}
#elif defined(__AVX2__)
LORIKEET_INLINE Vector<float> larger(Vector<float> a, Vector<float> b) { return (Vector<float>)_mm256_max_ps((__m256)a, (__m256)b); }
LORIKEET_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) { return (Vector<double>)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
LORIKEET_INLINE Vector<float> larger(Vector<float> a, Vector<float> b) { return a > b ? a : b; }
LORIKEET_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) { return a > b ? a : b; }
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
