#pragma once

// Vectors to and from memory of a storage type: computed in float (double for f64), rounded to the nearest on the way back. The bits of an
// element depend on its value alone, not on its place in a vector.

#include "cpu/simd.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class T>
using StoredVector = Vector<compute_t<T>>;

/// Elements of a StoredVector<T>.
template <class T>
inline constexpr int kStoredWidth = kVectorWidth<compute_t<T>>;

LORIKEET_INLINE Vector<float> load_stored(const float* p) { return load_vector(p); }
LORIKEET_INLINE Vector<double> load_stored(const double* p) { return load_vector(p); }
LORIKEET_INLINE void store_stored(float* p, Vector<float> v) { store_vector(p, v); }
LORIKEET_INLINE void store_stored(double* p, Vector<double> v) { store_vector(p, v); }

#if defined(__AVX512F__)
// Zero-masked forms with a full mask are the plain instructions; gcc 12 warns of the undefined operand in its own plain ones.
using Words [[gnu::vector_size(kSimdBytes), gnu::may_alias]] = uint32_t;
inline constexpr __mmask16 kAllLanes = 0xffff;

LORIKEET_INLINE Vector<float> from_bf16_bits(__m256i bits) {
  return (Vector<float>)((Words)_mm512_maskz_cvtepu16_epi32(kAllLanes, bits) << 16);
}
LORIKEET_INLINE __m256i to_bf16_bits(Vector<float> v) {
#if defined(__AVX512BF16__)
  return (__m256i)_mm512_cvtneps_pbh((__m512)v);  // subnormal numbers become zero
#else
  const Words bits = (Words)v, sum = bits + 0x7fffu + ((bits >> 16) & 1u);
  const Words kept = v == v ? sum : bits | 0x400000u;
  return _mm512_maskz_cvtepi32_epi16(kAllLanes, (__m512i)(kept >> 16));
#endif
}
LORIKEET_INLINE Vector<float> load_stored(const BFloat16* p) {
  return from_bf16_bits(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LORIKEET_INLINE Vector<float> load_stored(const Float16* p) {
  return (Vector<float>)_mm512_maskz_cvtph_ps(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LORIKEET_INLINE void store_stored(Float16* p, Vector<float> v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(kAllLanes, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
LORIKEET_INLINE void store_stored(BFloat16* p, Vector<float> v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16_bits(v)); }
#elif defined(__AVX2__)
LORIKEET_INLINE Vector<float> load_stored(const BFloat16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vector<float>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
}
LORIKEET_INLINE Vector<float> load_stored(const Float16* p) {
  return (Vector<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
LORIKEET_INLINE void store_stored(Float16* p, Vector<float> v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
LORIKEET_INLINE void store_stored(BFloat16* p, Vector<float> v) {
  const __m256i bits = (__m256i)v;
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = (__m256i)_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q);
  const __m256i words = _mm256_srli_epi32(_mm256_blendv_epi8(sum, quiet, is_nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x88);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}
#else
template <class T>
LORIKEET_INLINE Vector<float> load_stored(const T* p) {
  Vector<float> v{};
  for (int i = 0; i < kVectorWidth<float>; ++i) v[i] = load(p + i);
  return v;
}
template <class T>
LORIKEET_INLINE void store_stored(T* p, Vector<float> v) {
  for (int i = 0; i < kVectorWidth<float>; ++i) store(p + i, v[i]);
}
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__)
LORIKEET_INLINE __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
LORIKEET_INLINE Vector<float> load_part(const float* p, int64_t count) {
  return (Vector<float>)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
LORIKEET_INLINE Vector<float> load_part(const BFloat16* p, int64_t count) {
  return from_bf16_bits(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
LORIKEET_INLINE void store_part(float* p, Vector<float> v, int64_t count) { _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v); }
LORIKEET_INLINE void store_part(BFloat16* p, Vector<float> v, int64_t count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), to_bf16_bits(v));
}
#endif
template <class T>
LORIKEET_INLINE StoredVector<T> load_part(const T* p, int64_t count) {
  T part[kStoredWidth<T>] = {};
  __builtin_memcpy(part, p, static_cast<size_t>(count) * sizeof(T));
  return load_stored(part);
}
template <class T>
LORIKEET_INLINE void store_part(T* p, StoredVector<T> v, int64_t count) {
  T part[kStoredWidth<T>];
  store_stored(part, v);
  __builtin_memcpy(p, part, static_cast<size_t>(count) * sizeof(T));
}

/// The first `count` elements, zeros in the other lanes.
template <class T>
LORIKEET_INLINE StoredVector<T> load_stored(const T* p, int64_t count) {
  return count == kStoredWidth<T> ? load_stored(p) : load_part(p, count);
}
template <class T>
LORIKEET_INLINE void store_stored(T* p, StoredVector<T> v, int64_t count) {
  if (count == kStoredWidth<T>) return store_stored(p, v);
  store_part(p, v, count);
}

/// v as it is after storing it in T.
template <class T>
LORIKEET_INLINE StoredVector<T> rounded_to(StoredVector<T> v) {
#if defined(__AVX512F__)
  if constexpr (__is_same(T, BFloat16)) return from_bf16_bits(to_bf16_bits(v));
#endif
  T stored[kStoredWidth<T>];
  store_stored(stored, v);
  return load_stored(stored);
}

/// v with zeros in the lanes from `count` on.
template <class T>
LORIKEET_INLINE StoredVector<T> only_first(StoredVector<T> v, int64_t count) {
  for (int64_t i = count; i < kStoredWidth<T>; ++i) v[i] = 0;
  return v;
}

/// Calls body(i, count) for the vectors of T that cover [0, n): count is the vector's width but in the last.
template <class T, class Body>
LORIKEET_INLINE void for_each_vector(int64_t n, const Body& body) {
  constexpr int64_t kStep = kStoredWidth<T>;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) body(i, kStep);
  if (i < n) body(i, n - i);
}

}  // namespace lorikeet::LORIKEET_LEVEL
