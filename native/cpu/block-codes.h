#pragma once

// The codes of GGUF blocks as unsigned bytes, for products with rows of 8-bit integers: a value is scale * (code - kOffset) or, kShifted,
// scale * code + shift. A group of 32 columns has kScales scales, each for as many columns.

#include "cpu/quantized-groups.h"

namespace lorikeet::LORIKEET_LEVEL {

/// What the codes of a group stand for.
struct CodeScales {
  float scale[2];
  float shift;
};

/// 16 bytes of nibbles: code j in the low, code j + 16 in the high half.
LORIKEET_INLINE void split_nibbles(const uint8_t* nibbles, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) codes[j] = nibbles[j] & 15;
  for (int j = 0; j < 16; ++j) codes[j + 16] = nibbles[j] >> 4;
}

LORIKEET_INLINE void add_fifth_bits(const uint8_t* high, uint8_t* codes) {
  uint32_t bits;
  __builtin_memcpy(&bits, high, sizeof bits);
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>(codes[j] | (bits >> j & 1) << 4);
}

/// `read(block, part, codes)` writes the 32 codes of a part of a block.
template <class Block>
struct BlockCodes;

template <>
struct BlockCodes<Q4_0> {
  static constexpr int kOffset = 8, kScales = 1;
  static constexpr bool kShifted = false;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t, uint8_t* codes) {
    split_nibbles(block + 2, codes);
    return {{read_half(block)}, 0};
  }
};

template <>
struct BlockCodes<Q4_1> {
  static constexpr int kOffset = 0, kScales = 1;
  static constexpr bool kShifted = true;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t, uint8_t* codes) {
    split_nibbles(block + 4, codes);
    return {{read_half(block)}, read_half(block + 2)};
  }
};

template <>
struct BlockCodes<Q5_0> {
  static constexpr int kOffset = 16, kScales = 1;
  static constexpr bool kShifted = false;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t, uint8_t* codes) {
    split_nibbles(block + 6, codes);
    add_fifth_bits(block + 2, codes);
    return {{read_half(block)}, 0};
  }
};

template <>
struct BlockCodes<Q5_1> {
  static constexpr int kOffset = 0, kScales = 1;
  static constexpr bool kShifted = true;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t, uint8_t* codes) {
    split_nibbles(block + 8, codes);
    add_fifth_bits(block + 4, codes);
    return {{read_half(block)}, read_half(block + 2)};
  }
};

template <>
struct BlockCodes<Q8_0> {
  static constexpr int kOffset = 128, kScales = 1;
  static constexpr bool kShifted = false;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t, uint8_t* codes) {
    for (int j = 0; j < 32; ++j) codes[j] = block[2 + j] ^ 128;
    return {{read_half(block)}, 0};
  }
};

/// Q4_K and Q5_K, as sub_block reads them.
template <bool Fifth>
struct SubBlockCodes {
  static constexpr int kOffset = 0, kScales = 1;
  static constexpr bool kShifted = true;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t part, uint8_t* codes) {
    const uint8_t *fifth = block + 16, *bytes = fifth + (Fifth ? 32 : 0) + 32 * (part / 2);
    const int shift = part % 2 * 4;
    for (int j = 0; j < 32; ++j) {
      codes[j] = bytes[j] >> shift & 15;
      if constexpr (Fifth) codes[j] = static_cast<uint8_t>(codes[j] | (fifth[j] >> part & 1) << 4);
    }
    int scale, minimum;
    scale_and_minimum(block + 4, part, &scale, &minimum);
    return {{read_half(block) * static_cast<float>(scale)}, -(read_half(block + 2) * static_cast<float>(minimum))};
  }
};
template <>
struct BlockCodes<Q4_K> : SubBlockCodes<false> {};
template <>
struct BlockCodes<Q5_K> : SubBlockCodes<true> {};

template <>
struct BlockCodes<Q6_K> {
  static constexpr int kOffset = 32, kScales = 2;
  static constexpr bool kShifted = false;
  LORIKEET_INLINE static CodeScales read(const uint8_t* block, int64_t part, uint8_t* codes) {
    const int64_t half = part / 4, k = part % 4;
    const uint8_t *low = block + 64 * half + 32 * (k % 2), *high = block + 128 + 32 * half;
    const int nibble = k < 2 ? 0 : 4, pair = static_cast<int>(2 * k);
    for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>((low[j] >> nibble & 15) | (high[j] >> pair & 3) << 4);
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + 8 * half + 2 * k);
    const float d = read_half(block + 208);
    return {{d * static_cast<float>(scales[0]), d * static_cast<float>(scales[1])}, 0};
  }
};

/// Codes and scales of one group of one row.
template <class Block>
LORIKEET_INLINE CodeScales codes_of(const QuantizedMatrix& w, int64_t row, int64_t first, uint8_t* codes) {
  if constexpr (kParts<Block>.words > 0) {
    if (row < w.grouped_rows) {
      uint8_t block[Block::kBytes];
      gather_block<Block>(w, row, first, block);
      return BlockCodes<Block>::read(block, 0, codes);
    }
  }
  const uint8_t* block = w.codes + row * w.row_bytes + first / Block::kBlock * Block::kBytes;
  return BlockCodes<Block>::read(block, first % Block::kBlock / kQuantizedGroup, codes);
}

/// Calls `body` with the block type of a GGUF format.
#define LORIKEET_BLOCK_SWITCH(format, Block, ...) \
  switch (format) {                               \
    case Quantization::q4_0: {                    \
      using Block = Q4_0;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q4_1: {                    \
      using Block = Q4_1;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q5_0: {                    \
      using Block = Q5_0;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q5_1: {                    \
      using Block = Q5_1;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q8_0: {                    \
      using Block = Q8_0;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q4_k: {                    \
      using Block = Q4_K;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q5_k: {                    \
      using Block = Q5_K;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    case Quantization::q6_k: {                    \
      using Block = Q6_K;                         \
      __VA_ARGS__;                                \
      break;                                      \
    }                                             \
    default: break;                               \
  }

}  // namespace lorikeet::LORIKEET_LEVEL
