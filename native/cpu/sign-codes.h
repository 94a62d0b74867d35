#pragma once

// Codes of a code book (ops/sign-book.h) in bytes and vectors.

#include "cpu/quantized-groups.h"
#include "cpu/stored-vector.h"
#include "ops/sign-book.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Values whose codes are joined at once: whole bytes at every number of bits.
inline constexpr int64_t kCodeBlock = 64;
inline constexpr int kFewValues = 16;  // of a code book that is compared value by value

template <class C>
LORIKEET_INLINE const SignBook::Table<C>& book_table(const SignBook& book) {
  if constexpr (__is_same(C, float)) {
    return book.narrow;
  } else {
    return book.wide;
  }
}

/// How many of the 255 rising thresholds lie below z; no branch depends on it.
template <class C>
LORIKEET_INLINE int32_t search_code(C z, const C* thresholds) {
  int32_t code = 0;
#pragma GCC unroll 8
  for (int step = kMostSignValues / 2; step > 0; step /= 2) code += step & -static_cast<int32_t>(z > thresholds[code + step - 1]);
  return code;
}

#if defined(__AVX512F__)
LORIKEET_INLINE __m512 looked_up(const float* table, __m512i place) {
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), kAllLanes, place, table, sizeof(float));
}
LORIKEET_INLINE __m512 looked_up(__m512 table, __m512i place) { return _mm512_maskz_permutexvar_ps(kAllLanes, place, table); }

/// How many of 15 rising thresholds lie below z, by halving; they begin at `first` of the table (a register, or memory).
template <class Thresholds>
LORIKEET_INLINE __m512i halved(__m512 z, Thresholds thresholds, __m512i first) {
  __m512i code = first;
#pragma GCC unroll 4
  for (int step = 8; step > 0; step /= 2) {
    const __m512 middle = looked_up(thresholds, (__m512i)((Words)code + static_cast<uint32_t>(step - 1)));
    code = _mm512_mask_add_epi32(code, _mm512_cmp_ps_mask(z, middle, _CMP_GT_OQ), code, _mm512_set1_epi32(step));
  }
  return code;
}

/// The codes of a vector of z.
LORIKEET_INLINE __m512i codes_of(__m512 z, const SignBook::Table<float>& table, int64_t count) {
  const __m512i zero = _mm512_setzero_si512();
  if (count == kMostSignValues) {
    const __m512i sixteenth = halved(z, _mm512_loadu_ps(table.coarse), zero);
    return halved(z, table.thresholds, (__m512i)((Words)sixteenth << 4));
  }
  if (count == kFewValues) return halved(z, _mm512_loadu_ps(table.thresholds), zero);
  __m512i code = zero;
  for (int64_t i = 0; i + 1 < count; ++i) {
    const __mmask16 above = _mm512_cmp_ps_mask(z, _mm512_set1_ps(table.thresholds[i]), _CMP_GT_OQ);
    code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(1));
  }
  return code;
}
#endif

/// The codes of a vector of z, a byte each.
template <class C>
LORIKEET_INLINE void store_codes(Vector<C> z, const SignBook::Table<C>& table, int64_t count, uint8_t* codes) {
#if defined(__AVX512F__)
  if constexpr (__is_same(C, float)) {
    const __m128i bytes = _mm512_maskz_cvtepi32_epi8(kAllLanes, codes_of((__m512)z, table, count));
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), bytes);
  }
#endif
  if (count > kFewValues) {
    for (int i = 0; i < kVectorWidth<C>; ++i) codes[i] = static_cast<uint8_t>(search_code(z[i], table.thresholds));
    return;
  }
  decltype(z > z) code{};
  for (int64_t i = 0; i + 1 < count; ++i) code -= z > splat(table.thresholds[i]);
  for (int i = 0; i < kVectorWidth<C>; ++i) codes[i] = static_cast<uint8_t>(code[i]);
}

/// z rounded to the value of its code; on a threshold, to that threshold.
template <class C>
LORIKEET_INLINE Vector<C> book_values(Vector<C> z, const SignBook::Table<C>& table, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (__is_same(C, float)) {
    // Nothing equals what stands in the place of a threshold above the last value.
    const auto rounded = [&](__m512i code, auto values, auto thresholds) __attribute__((always_inline)) {
      const __m512 above = looked_up(thresholds, code);
      return (Vector<float>)_mm512_mask_mov_ps(looked_up(values, code), _mm512_cmp_ps_mask((__m512)z, above, _CMP_EQ_OQ), above);
    };
    if (count >= kFewValues) {
      const __m512i code = codes_of((__m512)z, table, count);
      if (count == kFewValues) return rounded(code, _mm512_loadu_ps(table.values), _mm512_loadu_ps(table.thresholds));
      return rounded(code, table.values, table.thresholds);
    }
  }
#endif
  Vector<C> q = splat(table.values[0]);
  if (count > kFewValues) {
    for (int i = 0; i < kVectorWidth<C>; ++i) {
      const int32_t code = search_code(z[i], table.thresholds);
      q[i] = z[i] == table.thresholds[code] ? z[i] : table.values[code];
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
    uint16_t pairs[kCodeBlock / 2];
    __builtin_memcpy(pairs, codes, sizeof pairs);
    for (int64_t i = 0; i < kCodeBlock / 2; ++i) joined[i] = static_cast<uint8_t>(pairs[i] | pairs[i] >> 4);
  } else if (bits == 2) {
    uint32_t quads[kCodeBlock / 4];
    __builtin_memcpy(quads, codes, sizeof quads);
    for (int64_t i = 0; i < kCodeBlock / 4; ++i)
      joined[i] = static_cast<uint8_t>(quads[i] | quads[i] >> 6 | quads[i] >> 12 | quads[i] >> 18);
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

#if defined(__AVX512F__)
/// Bit i: whether value i of 64 is above 0.
LORIKEET_INLINE uint64_t bits_above_zero(const Vector<float> (&z)[4]) {
  uint64_t bits = 0;
  for (int i = 0; i < 4; ++i) {
    const __mmask16 above = _mm512_cmp_ps_mask((__m512)z[i], _mm512_setzero_ps(), _CMP_GT_OQ);
    bits |= static_cast<uint64_t>(above) << (16 * i);
  }
  return bits;
}

/// Entries of a table of 2^Bits values by 16 codes.
template <int Bits>
LORIKEET_INLINE __m512 entries_of(const uint8_t* codes, const float* table) {
  if constexpr (Bits == 8) {
    const __m512i index = _mm512_maskz_cvtepu8_epi32(kAllLanes, _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    return looked_up(table, index);
  } else {
    uint32_t words[2];
    __builtin_memcpy(words, codes, Bits == 4 ? 8 : 4);
    if constexpr (Bits == 2) words[1] = words[0];
    const __m512i all = _mm512_mask_set1_epi32(_mm512_set1_epi32(static_cast<int>(words[0])), 0xff00, static_cast<int>(words[1]));
    const __m512i places =
        _mm512_setr_epi32(0, Bits, 2 * Bits, 3 * Bits, 4 * Bits, 5 * Bits, 6 * Bits, 7 * Bits, 8 * Bits % 32, 9 * Bits % 32, 10 * Bits % 32,
                          11 * Bits % 32, 12 * Bits % 32, 13 * Bits % 32, 14 * Bits % 32, 15 * Bits % 32);
    // A look-up takes the four low bits: of a smaller table there are copies.
    const __m512 values = Bits == 4 ? _mm512_loadu_ps(table) : _mm512_maskz_broadcast_f32x4(kAllLanes, _mm_loadu_ps(table));
    return looked_up(values, _mm512_maskz_srlv_epi32(kAllLanes, all, places));
  }
}
#endif

/// Up to kCodeBlock values of codes.
template <int Bits, class T>
LORIKEET_INLINE void unpack_block(const uint8_t* codes, const float* table, int64_t count, T* out) {
  alignas(64) float values[kCodeBlock];
  if (count == kCodeBlock && Bits == 1) {
    for (int half = 0; half < 2; ++half) {
      uint32_t word;
      __builtin_memcpy(&word, codes + 4 * half, sizeof word);
      two_values(word, table, values + 32 * half);
    }
#if defined(__AVX512F__)
  } else if (count == kCodeBlock && Bits > 1) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_store_ps(values + 16 * i, entries_of<Bits>(codes + 2 * Bits * i, table));
#endif
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = table[codes[i * Bits / 8] >> (i * Bits % 8) & ((1 << Bits) - 1)];
  }
  if constexpr (!__is_same(compute_t<T>, float)) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<double>(values[i]);
  } else if (count == kCodeBlock) {
#pragma GCC unroll 4
    for (int i = 0; i < kCodeBlock; i += kStoredWidth<T>) store_stored(out + i, load_vector(values + i));
  } else {
    for_each_vector<T>(count, [&](int64_t at, int64_t valid) { store_stored(out + at, load_vector(values + at), valid); });
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
