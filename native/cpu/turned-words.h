#pragma once

#include "cpu/level.h"

#if defined(__AVX512F__)
#include <immintrin.h>

namespace lorikeet::LORIKEET_LEVEL {

/// The words at `offset` of 16 blocks, one a row that begins at rows(i): words[c] holds word c of every row.
template <class Rows>
LORIKEET_INLINE void turned_words(const Rows& rows, int64_t offset, __m512i (&words)[4]) {
  __m512i part[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto load = [&](int row) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows(row) + offset));
    };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(i + 4), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i + 8)), load(i + 12), 1);
    part[i] = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);
  }
  const __m512i a = _mm512_maskz_unpacklo_epi32(0xffff, part[0], part[1]), b = _mm512_maskz_unpacklo_epi32(0xffff, part[2], part[3]);
  const __m512i c = _mm512_maskz_unpackhi_epi32(0xffff, part[0], part[1]), d = _mm512_maskz_unpackhi_epi32(0xffff, part[2], part[3]);
  words[0] = _mm512_maskz_unpacklo_epi64(0xff, a, b);
  words[1] = _mm512_maskz_unpackhi_epi64(0xff, a, b);
  words[2] = _mm512_maskz_unpacklo_epi64(0xff, c, d);
  words[3] = _mm512_maskz_unpackhi_epi64(0xff, c, d);
}

}  // namespace lorikeet::LORIKEET_LEVEL
#endif
