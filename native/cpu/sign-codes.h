#pragma once

// Codes of a code book (ops/sign-book.h) in bytes and vectors.

#include "cpu/quantized-groups.h"
#include "cpu/stored-vector.h"
#include "ops/sign-book.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Values whose codes are joined at once: whole bytes at every number of bits.
inline constexpr int64_t kCodeBlock = 64;
inline constexpr int64_t kFewValues = 16;  // of a code book that is compared value by value

template <class C>
LORIKEET_INLINE const SignBook::Table<C>& book_table(const SignBook& book) {
  if constexpr (__is_same(C, float)) {
    return book.narrow;
  } else {
    return book.wide;
  }
}

/// How many of the 2^bits - 1 rising thresholds lie below z.
template <class C>
LORIKEET_INLINE int64_t search_code(C z, const C* thresholds, int64_t count) {
  int64_t code = 0;
  for (int64_t step = count / 2; step > 0; step /= 2) code += z > thresholds[code + step - 1] ? step : 0;
  return code;
}

/// The codes of a vector of z, a byte each.
template <class C>
LORIKEET_INLINE void store_codes(Vector<C> z, const SignBook::Table<C>& table, int64_t bits, uint8_t* codes) {
  constexpr int kWidth = kVectorWidth<C>;
  const int64_t count = int64_t{1} << bits;
  if (count > kFewValues) {
    for (int i = 0; i < kWidth; ++i) codes[i] = static_cast<uint8_t>(search_code(z[i], table.thresholds, count));
    return;
  }
#if defined(__AVX512F__)
  if constexpr (__is_same(C, float)) {
    __m512i code = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi32(1);
    for (int64_t i = 0; i + 1 < count; ++i) {
      const __mmask16 above = _mm512_cmp_ps_mask((__m512)z, _mm512_set1_ps(table.thresholds[i]), _CMP_GT_OQ);
      code = _mm512_mask_add_epi32(code, above, code, one);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_maskz_cvtepi32_epi8(kAllLanes, code));
    return;
  }
#endif
  decltype(z > z) code{};
  for (int64_t i = 0; i + 1 < count; ++i) code -= z > splat(table.thresholds[i]);
  for (int i = 0; i < kWidth; ++i) codes[i] = static_cast<uint8_t>(code[i]);
}

/// z rounded to the value of its code; on a threshold, to that threshold.
template <class C>
LORIKEET_INLINE Vector<C> book_values(Vector<C> z, const SignBook::Table<C>& table, int64_t count) {
  Vector<C> q = splat(table.values[0]);
  if (count > kFewValues) {
    for (int i = 0; i < kVectorWidth<C>; ++i) {
      const C x = z[i];
      const int64_t code = search_code(x, table.thresholds, count);
      q[i] = code + 1 < count && x == table.thresholds[code] ? x : table.values[code];
    }
    return q;
  }
  for (int64_t i = 0; i + 1 < count; ++i) {
    const Vector<C> threshold = splat(table.thresholds[i]);
    q = z > threshold ? splat(table.values[i + 1]) : q;
    q = z == threshold ? threshold : q;
  }
  return q;
}

/// `count` codes, a byte each, into `bits` bits each, the first in the lowest; zeros fill the last byte.
LORIKEET_INLINE void join_codes(uint8_t* codes, int64_t count, int64_t bits, uint8_t* out) {
  for (int64_t i = count; i < kCodeBlock; ++i) codes[i] = 0;
  uint8_t joined[kCodeBlock];
  if (bits == 8) {
    for (int64_t i = 0; i < kCodeBlock; ++i) joined[i] = codes[i];
  } else if (bits == 4) {
    for (int64_t i = 0; i < kCodeBlock / 2; ++i) joined[i] = static_cast<uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  } else if (bits == 2) {
    for (int64_t i = 0; i < kCodeBlock / 4; ++i) {
      const uint8_t* four = codes + 4 * i;
      joined[i] = static_cast<uint8_t>(four[0] | four[1] << 2 | four[2] << 4 | four[3] << 6);
    }
  } else {
    // Byte j of eight, 0 or 1, comes to bit 56 + j.
    for (int64_t i = 0; i < kCodeBlock / 8; ++i) {
      uint64_t eight;
      __builtin_memcpy(&eight, codes + 8 * i, sizeof eight);
      joined[i] = static_cast<uint8_t>(eight * 0x0102040810204080u >> 56);
    }
  }
  __builtin_memcpy(out, joined, static_cast<size_t>((count * bits + 7) / 8));
}

/// Up to kCodeBlock values of codes.
template <class T>
LORIKEET_INLINE void unpack_block(const uint8_t* codes, const float* table, int64_t count, int64_t bits, T* out) {
  alignas(64) float values[kCodeBlock];
  if (bits == 1 && count == kCodeBlock) {
    for (int half = 0; half < 2; ++half) {
      uint32_t word;
      __builtin_memcpy(&word, codes + 4 * half, sizeof word);
      two_values(word, table, values + 32 * half);
    }
  } else {
    const int64_t each = 8 / bits, mask = (int64_t{1} << bits) - 1;
    for (int64_t i = 0; i < count; ++i) values[i] = table[codes[i / each] >> (i % each * bits) & mask];
  }
  for (int64_t i = 0; i < count; ++i) store(out + i, static_cast<compute_t<T>>(values[i]));
}

}  // namespace lorikeet::LORIKEET_LEVEL
