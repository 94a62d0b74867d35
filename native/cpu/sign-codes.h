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

/// How many of count - 1 <= 15 rising thresholds lie below z; 16 of them can be read.
LORIKEET_INLINE __m512i few_codes(__m512 z, const float* thresholds, int64_t count) {
  __m512i code = _mm512_setzero_si512();
  if (count == kFewValues) return halved(z, _mm512_loadu_ps(thresholds), code);
  for (int64_t i = 0; i + 1 < count; ++i) {
    const __mmask16 above = _mm512_cmp_ps_mask(z, _mm512_set1_ps(thresholds[i]), _CMP_GT_OQ);
    code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(1));
  }
  return code;
}

/// The codes of a vector of z.
LORIKEET_INLINE __m512i codes_of(__m512 z, const SignBook::Table<float>& table, int64_t count) {
  if (count <= kFewValues) return few_codes(z, table.thresholds, count);
  const __m512i sixteenth = halved(z, _mm512_loadu_ps(table.coarse), _mm512_setzero_si512());
  return halved(z, table.thresholds, (__m512i)((Words)sixteenth << 4));
}
#endif

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

/// `count` codes, a byte each, into `bits` < 8 bits each, the first in the lowest; zeros fill the last byte.
LORIKEET_INLINE void join_codes(uint8_t* codes, int64_t count, int64_t bits, uint8_t* out) {
  for (int64_t i = count; i < kCodeBlock; ++i) codes[i] = 0;
  uint8_t joined[kCodeBlock];
  if (bits == 4) {
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
/// Bit i: whether value i of 64 is above the cutoff.
template <class T>
LORIKEET_INLINE uint64_t bits_above(const T* w, float cutoff) {
  uint64_t bits = 0;
  for (int i = 0; i < 4; ++i) {
    const __mmask16 above = _mm512_cmp_ps_mask((__m512)load_stored(w + 16 * i), _mm512_set1_ps(cutoff), _CMP_GT_OQ);
    bits |= static_cast<uint64_t>(above) << (16 * i);
  }
  return bits;
}

/// Values of codes, two vectors of 16 at a time.
template <int Bits>
struct CodeTable {
  __m512 values;

  /// A look-up takes the four low bits: of a smaller table there are copies.
  explicit CodeTable(const float* table)
      : values(Bits == 4 ? _mm512_loadu_ps(table) : _mm512_maskz_broadcast_f32x4(kAllLanes, _mm_loadu_ps(table))) {}

  LORIKEET_INLINE __m512 sixteen(const uint8_t* codes) const {
    uint32_t words[2];
    __builtin_memcpy(words, codes, 2 * Bits);
    if constexpr (Bits == 2) words[1] = words[0];
    const __m512i all = _mm512_mask_set1_epi32(_mm512_set1_epi32(static_cast<int>(words[0])), 0xff00, static_cast<int>(words[1]));
    const __m512i places =
        _mm512_setr_epi32(0, Bits, 2 * Bits, 3 * Bits, 4 * Bits, 5 * Bits, 6 * Bits, 7 * Bits, 8 * Bits % 32, 9 * Bits % 32, 10 * Bits % 32,
                          11 * Bits % 32, 12 * Bits % 32, 13 * Bits % 32, 14 * Bits % 32, 15 * Bits % 32);
    return looked_up(values, _mm512_maskz_srlv_epi32(kAllLanes, all, places));
  }
  LORIKEET_INLINE void look_up(const uint8_t* codes, __m512 (&out)[2]) const {
    out[0] = sixteen(codes);
    out[1] = sixteen(codes + 2 * Bits);
  }
};

/// 256 values as halves of 16 bits, in registers of 32: a look-up reaches two of these.
template <>
struct CodeTable<8> {
  __m512i low[8], high[8];

  explicit CodeTable(const float* table) {
    const auto joined = [](__m512i first, __m512i second) {
      const __m256i left = _mm512_maskz_cvtepi32_epi16(kAllLanes, first), right = _mm512_maskz_cvtepi32_epi16(kAllLanes, second);
      return _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(left), right, 1);
    };
    for (int i = 0; i < 8; ++i) {
      const auto first = (__m512i)_mm512_loadu_ps(table + 32 * i), second = (__m512i)_mm512_loadu_ps(table + 32 * i + 16);
      low[i] = joined(first, second);
      high[i] = joined((__m512i)((Words)first >> 16), (__m512i)((Words)second >> 16));
    }
  }

  LORIKEET_INLINE static __m512i halves_of(const __m512i (&table)[8], __m512i codes) {
    constexpr __mmask32 kAll = 0xffffffff;
    const __mmask32 bit6 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(64)),
                    bit7 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(128));
    __m512i quarter[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) quarter[i] = _mm512_maskz_permutex2var_epi16(kAll, table[2 * i], codes, table[2 * i + 1]);
    return _mm512_mask_blend_epi16(bit7, _mm512_mask_blend_epi16(bit6, quarter[0], quarter[1]),
                                   _mm512_mask_blend_epi16(bit6, quarter[2], quarter[3]));
  }
  LORIKEET_INLINE void look_up(const uint8_t* codes, __m512 (&out)[2]) const {
    // Fours of codes in the order in which interleaving the halves puts them right.
    const __m256i fours =
        _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m512i words = _mm512_maskz_cvtepu8_epi16(0xffffffff, fours), left = halves_of(low, words), right = halves_of(high, words);
    out[0] = (__m512)_mm512_maskz_unpacklo_epi16(0xffffffff, left, right);
    out[1] = (__m512)_mm512_maskz_unpackhi_epi16(0xffffffff, left, right);
  }
};
template <>
struct CodeTable<1> {
  const float* pair;
  explicit CodeTable(const float* table) : pair(table) {}

  LORIKEET_INLINE void look_up(const uint8_t* codes, __m512 (&out)[2]) const {
    const __m512 low = _mm512_set1_ps(pair[0]), high = _mm512_set1_ps(pair[1]);
    uint32_t bits;
    __builtin_memcpy(&bits, codes, sizeof bits);
    out[0] = _mm512_mask_blend_ps(static_cast<__mmask16>(bits), low, high);
    out[1] = _mm512_mask_blend_ps(static_cast<__mmask16>(bits >> 16), low, high);
  }
};
#endif

/// Up to kCodeBlock values of codes, one by one.
template <int Bits, class T>
LORIKEET_INLINE void unpack_block(const uint8_t* codes, const float* table, int64_t count, T* out) {
  alignas(64) float values[kCodeBlock];
  if (count == kCodeBlock && Bits == 1) {
    for (int half = 0; half < 2; ++half) {
      uint32_t word;
      __builtin_memcpy(&word, codes + 4 * half, sizeof word);
      two_values(word, table, values + 32 * half);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = table[codes[i * Bits / 8] >> (i * Bits % 8) & ((1 << Bits) - 1)];
  }
  if constexpr (!__is_same(compute_t<T>, float)) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<double>(values[i]);
  } else {
    for_each_vector<T>(count, [&](int64_t at, int64_t valid) { store_stored(out + at, load_vector(values + at), valid); });
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
