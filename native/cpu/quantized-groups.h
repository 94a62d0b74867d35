#pragma once

// One struct per quantised format: the 32 values of a group of columns of one row, from its codes. Each product and sum is rounded on its
// own, in the order of the format's definition, so that values equal those of other readers bit for bit.

#include "cpu/level.h"
#include "ops/quantize.h"
#include "ops/quantized-matrix.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lorikeet::LORIKEET_LEVEL {

LORIKEET_INLINE float read_half(const uint8_t* p) {
  Float16 value;
  __builtin_memcpy(&value, p, sizeof value);
  return static_cast<float>(value);
}

/// The parts of a block type that may lie in groups of rows (ops/row-groups.h).
template <class Block>
inline constexpr BlockParts kParts{};

/// The blocks of kRowGroup rows from `row` on, which lie in groups, that begin with column `first`.
LORIKEET_INLINE const uint8_t* grouped_blocks(const QuantizedMatrix& w, int64_t row, int64_t first, int64_t block_bytes) {
  return w.codes + row * w.row_bytes + first / kQuantizedGroup * block_bytes * kRowGroup;
}

/// The block of a row that lies in a group, put together.
template <class Block>
LORIKEET_INLINE void gather_block(const QuantizedMatrix& w, int64_t row, int64_t first, uint8_t* block) {
  constexpr BlockParts parts = kParts<Block>;
  const int64_t place = row % kRowGroup;
  const uint8_t *halves = grouped_blocks(w, row - place, first, Block::kBytes), *words = halves + parts.halves * 2 * kRowGroup;
  for (int64_t i = 0; i < parts.halves; ++i) __builtin_memcpy(block + 2 * i, halves + 2 * (i * kRowGroup + place), 2);
  for (int64_t i = 0; i < parts.words; ++i) {
    __builtin_memcpy(block + 2 * parts.halves + 4 * i, words + 4 * (i * kRowGroup + place), 4);
  }
}

/// A GGUF block type: `Block::values(block, part, out)` writes the 32 values of part `part` of a block of kBlock values in kBytes bytes.
template <class Block>
struct GgufGroups {
  LORIKEET_INLINE static void group(const QuantizedMatrix& w, int64_t row, int64_t first, int64_t, float* out) {
    if constexpr (kParts<Block>.words > 0) {
      if (row < w.grouped_rows) return grouped(w, row, first, out);
    }
    const uint8_t* block = w.codes + row * w.row_bytes + first / Block::kBlock * Block::kBytes;
    Block::values(block, first % Block::kBlock / kQuantizedGroup, out);
  }

  LORIKEET_INLINE static void grouped(const QuantizedMatrix& w, int64_t row, int64_t first, float* out) {
    uint8_t block[Block::kBytes];
    gather_block<Block>(w, row, first, block);
    Block::values(block, 0, out);
  }
};

// [d f16][16 bytes: value j in the low, value j + 16 in the high nibble]; d (q - 8)
struct Q4_0 {
  static constexpr int64_t kBlock = 32, kBytes = 18;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t, float* out) {
    const float d = read_half(block);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
};

// [d f16][m f16][nibbles as in Q4_0]; d q + m
struct Q4_1 {
  static constexpr int64_t kBlock = 32, kBytes = 20;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t, float* out) {
    const float d = read_half(block), m = read_half(block + 2);
    for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
};

template <>
inline constexpr BlockParts kParts<Q4_0> = parts_of(Quantization::q4_0);
template <>
inline constexpr BlockParts kParts<Q4_1> = parts_of(Quantization::q4_1);

/// Value j of 32 from nibbles and a word whose bit j is the value's fifth bit.
LORIKEET_INLINE void five_bits(const uint8_t* high, const uint8_t* nibbles, int* q) {
  uint32_t bits;
  __builtin_memcpy(&bits, high, sizeof bits);
  for (int j = 0; j < 16; ++j) q[j] = (nibbles[j] & 15) | static_cast<int>((bits >> j & 1) << 4);
  for (int j = 0; j < 16; ++j) q[j + 16] = (nibbles[j] >> 4) | static_cast<int>((bits >> (j + 16) & 1) << 4);
}

// [d f16][fifth bits u32][nibbles]; d (q - 16)
struct Q5_0 {
  static constexpr int64_t kBlock = 32, kBytes = 22;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t, float* out) {
    int q[32];
    five_bits(block + 2, block + 6, q);
    const float d = read_half(block);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(q[j] - 16);
  }
};

// [d f16][m f16][fifth bits u32][nibbles]; d q + m
struct Q5_1 {
  static constexpr int64_t kBlock = 32, kBytes = 24;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t, float* out) {
    int q[32];
    five_bits(block + 4, block + 8, q);
    const float d = read_half(block), m = read_half(block + 2);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(q[j]) + m;
  }
};

// [d f16][32 x i8]; d q
struct Q8_0 {
  static constexpr int64_t kBlock = 32, kBytes = 34;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t, float* out) {
    const float d = read_half(block);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
  }
};

template <>
inline constexpr BlockParts kParts<Q8_0> = parts_of(Quantization::q8_0);

/// Scale and minimum (6 bits each) of sub-block j of 8 from the 12 packed bytes of Q4_K and Q5_K: sub-blocks 0..3 own the low six bits of
/// bytes j and j + 4; sub-blocks 4..7 have four bits in byte j + 4 and the upper two bits of bytes j - 4 and j.
LORIKEET_INLINE void scale_and_minimum(const uint8_t* packed, int64_t j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4);
    *minimum = (packed[j + 4] >> 4) | (packed[j] >> 6 << 4);
  }
}

/// Sub-block j of 32 values: the low (even j) or high nibbles of bytes 32 (j / 2) .. + 31, and with `Fifth` bit j of a fifth bit plane.
/// (d scale) q - (dmin minimum)
template <bool Fifth>
LORIKEET_INLINE void sub_block(const uint8_t* head, const uint8_t* fifth, const uint8_t* nibbles, int64_t j, float* out) {
  int scale, minimum;
  scale_and_minimum(head + 4, j, &scale, &minimum);
  const float step = read_half(head) * static_cast<float>(scale), base = read_half(head + 2) * static_cast<float>(minimum);
  const uint8_t* bytes = nibbles + 32 * (j / 2);
  const int shift = j % 2 * 4;
  for (int l = 0; l < 32; ++l) {
    int q = bytes[l] >> shift & 15;
    if constexpr (Fifth) q |= (fifth[l] >> j & 1) << 4;
    out[l] = step * static_cast<float>(q) - base;
  }
}

// [d f16][dmin f16][12 packed scales][128 nibble bytes]
struct Q4_K {
  static constexpr int64_t kBlock = 256, kBytes = 144;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t part, float* out) {
    sub_block<false>(block, nullptr, block + 16, part, out);
  }
};

// [d f16][dmin f16][12 packed scales][32 bytes of fifth bits][128 nibble bytes]
struct Q5_K {
  static constexpr int64_t kBlock = 256, kBytes = 176;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t part, float* out) {
    sub_block<true>(block, block + 16, block + 48, part, out);
  }
};

// [128 bytes of low nibbles][64 bytes of upper bit pairs][16 scales i8][d f16], in two halves of 128 values. In a half, quarter k (32
// values) takes the nibbles of bytes 32 (k % 2) .. + 31 (low for k < 2, else high), bit pair k, and scales 2 k and 2 k + 1.
// (d scale) (q - 32)
struct Q6_K {
  static constexpr int64_t kBlock = 256, kBytes = 210;
  LORIKEET_INLINE static void values(const uint8_t* block, int64_t part, float* out) {
    const int64_t half = part / 4, k = part % 4;
    const uint8_t* low = block + 64 * half + 32 * (k % 2);
    const uint8_t* high = block + 128 + 32 * half;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + 8 * half + 2 * k);
    const float d = read_half(block + 208);
    const int nibble = k < 2 ? 0 : 4, pair = static_cast<int>(2 * k);
    for (int side = 0; side < 2; ++side) {
      const float step = d * static_cast<float>(scales[side]);
      for (int l = 16 * side; l < 16 * side + 16; ++l) {
        const int q = (low[l] >> nibble & 15) | (high[l] >> pair & 3) << 4;
        out[l] = step * static_cast<float>(q - 32);
      }
    }
  }
};

struct Int8Groups {
  LORIKEET_INLINE static void group(const QuantizedMatrix& w, int64_t row, int64_t first, int64_t count, float* out) {
    const auto* codes = reinterpret_cast<const int8_t*>(w.codes + row * w.row_bytes + first);
    const float scale = w.scales[row];
    if (count == kQuantizedGroup) {
      for (int j = 0; j < kQuantizedGroup; ++j) out[j] = int8_value(codes[j], scale);
    } else {
      for (int64_t j = 0; j < count; ++j) out[j] = int8_value(codes[j], scale);
    }
  }
};

LORIKEET_INLINE float nf4_scale(const QuantizedMatrix& w, int64_t block) {
  if (w.scale_codes == nullptr) return w.scales[block];
  return kDynamicMap.values[w.scale_codes[block]] * w.scales[block / kNestedBlock] + *w.scale_offset;
}

struct Nf4Groups {
  LORIKEET_INLINE static void group(const QuantizedMatrix& w, int64_t row, int64_t first, int64_t count, float* out) {
    const int64_t place = row * w.columns + first;
    if (count == kQuantizedGroup && place % kQuantizedGroup == 0) return whole(w.codes + place / 2, nf4_scale(w, place / w.block), out);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t at = place + j;
      const int code = w.codes[at / 2] >> (at % 2 == 0 ? 4 : 0) & 15;
      out[j] = kNf4Values[code] * nf4_scale(w, at / w.block);
    }
  }

  /// 32 values that begin with a byte and share a scale.
  LORIKEET_INLINE static void whole(const uint8_t* codes, float scale, float* out) {
#if defined(__AVX512F__)
    const __m512 table = _mm512_loadu_ps(kNf4Values), factor = _mm512_set1_ps(scale);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), mask = _mm_set1_epi8(15);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask), low = _mm_and_si128(bytes, mask);
    // The forms with a full mask: compilers take the operand that the plain ones leave open for an uninitialised one.
    const __m512i first = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_unpacklo_epi8(high, low));
    const __m512i second = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_unpackhi_epi8(high, low));
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_maskz_permutexvar_ps(0xffff, first, table), factor));
    _mm512_storeu_ps(out + 16, _mm512_mul_ps(_mm512_maskz_permutexvar_ps(0xffff, second, table), factor));
#else
    for (int j = 0; j < 16; ++j) {
      out[2 * j] = kNf4Values[codes[j] >> 4] * scale;
      out[2 * j + 1] = kNf4Values[codes[j] & 15] * scale;
    }
#endif
  }
};

/// out[j] = bit j of `bits` ? pair[1] : pair[0].
LORIKEET_INLINE void two_values(uint32_t bits, const float* pair, float* out) {
#if defined(__AVX512F__)
  const __m512 low = _mm512_set1_ps(pair[0]), high = _mm512_set1_ps(pair[1]);
  _mm512_storeu_ps(out, _mm512_mask_blend_ps(static_cast<__mmask16>(bits), low, high));
  _mm512_storeu_ps(out + 16, _mm512_mask_blend_ps(static_cast<__mmask16>(bits >> 16), low, high));
#else
  const float low = pair[0], high = pair[1];
  for (uint32_t j = 0; j < 32; ++j) out[j] = (bits & 1u << j) != 0 ? high : low;
#endif
}

struct SignGroups {
  LORIKEET_INLINE static void group(const QuantizedMatrix& w, int64_t row, int64_t first, int64_t count, float* out) {
    const int64_t place = row * w.columns + first;
    if (count == kQuantizedGroup && place % 8 == 0) {
      uint32_t bits;
      __builtin_memcpy(&bits, w.codes + place / 8, sizeof bits);
      return two_values(bits, w.scales, out);
    }
    for (int64_t j = 0; j < count; ++j) out[j] = w.scales[w.codes[(place + j) / 8] >> (place + j) % 8 & 1];
  }
};

/// Calls `body` with the struct of a format.
#define LORIKEET_QUANTIZATION_SWITCH(format, Groups, ...) \
  switch (format) {                                       \
    case Quantization::q4_0: {                            \
      using Groups = GgufGroups<Q4_0>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q4_1: {                            \
      using Groups = GgufGroups<Q4_1>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q5_0: {                            \
      using Groups = GgufGroups<Q5_0>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q5_1: {                            \
      using Groups = GgufGroups<Q5_1>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q8_0: {                            \
      using Groups = GgufGroups<Q8_0>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q4_k: {                            \
      using Groups = GgufGroups<Q4_K>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q5_k: {                            \
      using Groups = GgufGroups<Q5_K>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::q6_k: {                            \
      using Groups = GgufGroups<Q6_K>;                    \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::int8: {                            \
      using Groups = Int8Groups;                          \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::nf4: {                             \
      using Groups = Nf4Groups;                           \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
    case Quantization::sign: {                            \
      using Groups = SignGroups;                          \
      __VA_ARGS__;                                        \
      break;                                              \
    }                                                     \
  }

}  // namespace lorikeet::LORIKEET_LEVEL
