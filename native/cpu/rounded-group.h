#pragma once

// A group of a row of x in 8 bits, for products with the codes of blocks.

#include "cpu/int8-rows.h"
#include "ops/quantized-matrix.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512BW__)
// Zero-masked forms with a full mask are the plain instructions; gcc 12 warns of the undefined operand in its own plain ones.
inline constexpr __mmask16 kAll = 0xffff;

LORIKEET_INLINE __m512 load_floats(const float* p) { return _mm512_loadu_ps(p); }
LORIKEET_INLINE __m512 load_floats(const Float16* p) {
  return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LORIKEET_INLINE __m512 load_floats(const BFloat16* p) {
  const __m512i words = _mm512_maskz_cvtepu16_epi32(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return (__m512)((WordVector)words << 16);
}

/// op over all lanes.
template <class Op>
LORIKEET_INLINE int32_t over_lanes(__m512i v, const Op& op) {
  using Eight [[gnu::vector_size(32)]] = int32_t;
  using Four [[gnu::vector_size(16)]] = int32_t;
  const auto eight = op((Eight)_mm512_maskz_extracti64x4_epi64(0xff, v, 0), (Eight)_mm512_maskz_extracti64x4_epi64(0xff, v, 1));
  auto four = op((Four)_mm256_castsi256_si128((__m256i)eight), (Four)_mm256_extracti128_si256((__m256i)eight, 1));
  four = op(four, (Four)_mm_shuffle_epi32((__m128i)four, 0x4e));
  four = op(four, (Four)_mm_shuffle_epi32((__m128i)four, 0xb1));
  return four[0];
}
LORIKEET_INLINE int32_t largest_lane(__m512i v) {
  return over_lanes(v, [](auto a, auto b) { return a > b ? a : b; });
}
LORIKEET_INLINE int32_t sum_of_lanes(__m512i v) {
  return over_lanes(v, [](auto a, auto b) { return a + b; });
}
#endif

/// Codes of kQuantizedGroup values and the sums of their halves; returns the scale, which is NaN when a value is infinite or NaN.
template <class T>
LORIKEET_INLINE float round_group(const T* x, int64_t stride, int8_t* codes, int32_t (&sums)[2]) {
#if defined(__AVX512BW__)
  if constexpr (!__is_same(T, double)) {
    if (stride == 1) {
      const __m512 a = load_floats(x), b = load_floats(x + 16);
      const __m512i size_a = _mm512_castps_si512(_mm512_abs_ps(a)), size_b = _mm512_castps_si512(_mm512_abs_ps(b));
      const int32_t largest_bits = largest_lane(_mm512_maskz_max_epi32(kAll, size_a, size_b));
      const float largest = bits_to_float(static_cast<uint32_t>(largest_bits));
      const bool finite = largest_bits < kInfinityBits;
      const float factor = finite && largest > kSmallestScaled ? 127.0f / largest : 0.0f;
      const __mmask16 kept = finite ? kAll : __mmask16{0};
      const __m512 scale = _mm512_set1_ps(factor);
      const __m512i code_a = _mm512_maskz_cvtps_epi32(kept, _mm512_maskz_mul_ps(kAll, a, scale));
      const __m512i code_b = _mm512_maskz_cvtps_epi32(kept, _mm512_maskz_mul_ps(kAll, b, scale));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_maskz_cvtepi32_epi8(kAll, code_a));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16), _mm512_maskz_cvtepi32_epi8(kAll, code_b));
      sums[0] = sum_of_lanes(code_a);
      sums[1] = sum_of_lanes(code_b);
      return finite ? (factor > 0 ? largest / 127.0f : 0.0f) : __builtin_nanf("");
    }
  }
#endif
  const float scale = quantize_group<kQuantizedGroup, 0>(x, stride, nullptr, kQuantizedGroup, reinterpret_cast<uint8_t*>(codes));
  sums[0] = sums[1] = 0;
  for (int j = 0; j < 32; ++j) sums[j / 16] += codes[j];
  return scale;
}

}  // namespace lorikeet::LORIKEET_LEVEL
