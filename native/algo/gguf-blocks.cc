#include "algo/gguf-blocks.h"

#include <cstring>

#include "core/dtype.h"

// One function per block type, each reading one block. Products and sums are rounded one by one in float, in the order of the format's
// definition, so that the values equal those of other readers bit for bit.

namespace lorikeet {
namespace {

float read_half(const uint8_t* p) {
  Float16 value;
  memcpy(&value, p, sizeof value);
  return static_cast<float>(value);
}

// [d f16][16 bytes: value j in the low, value j + 16 in the high nibble]; d (q - 8)
void q4_0(const uint8_t* block, float* out) {
  float d = read_half(block);
  for (int j = 0; j < 16; j++) {
    uint8_t packed = block[2 + j];
    out[j] = d * static_cast<float>((packed & 15) - 8);
    out[j + 16] = d * static_cast<float>((packed >> 4) - 8);
  }
}

// [d f16][m f16][nibbles as in Q4_0]; d q + m
void q4_1(const uint8_t* block, float* out) {
  float d = read_half(block), m = read_half(block + 2);
  for (int j = 0; j < 16; j++) {
    uint8_t packed = block[4 + j];
    out[j] = d * static_cast<float>(packed & 15) + m;
    out[j + 16] = d * static_cast<float>(packed >> 4) + m;
  }
}

// Value j of 32 from nibbles and a word whose bit j is the value's fifth bit.
void five_bits(const uint8_t* high, const uint8_t* nibbles, int* q) {
  uint32_t bits;
  memcpy(&bits, high, sizeof bits);
  for (int j = 0; j < 16; j++) {
    q[j] = (nibbles[j] & 15) | static_cast<int>((bits >> j & 1) << 4);
    q[j + 16] = (nibbles[j] >> 4) | static_cast<int>((bits >> (j + 16) & 1) << 4);
  }
}

// [d f16][fifth bits u32][nibbles]; d (q - 16)
void q5_0(const uint8_t* block, float* out) {
  int q[32];
  five_bits(block + 2, block + 6, q);
  float d = read_half(block);
  for (int j = 0; j < 32; j++) out[j] = d * static_cast<float>(q[j] - 16);
}

// [d f16][m f16][fifth bits u32][nibbles]; d q + m
void q5_1(const uint8_t* block, float* out) {
  int q[32];
  five_bits(block + 4, block + 8, q);
  float d = read_half(block), m = read_half(block + 2);
  for (int j = 0; j < 32; j++) out[j] = d * static_cast<float>(q[j]) + m;
}

// [d f16][32 x i8]; d q
void q8_0(const uint8_t* block, float* out) {
  float d = read_half(block);
  for (int j = 0; j < 32; j++) out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
}

// Scale and minimum (6 bits each) of sub-block j of 8 from the 12 packed bytes of Q4_K and Q5_K: sub-blocks 0..3 own the low six bits of
// bytes j and j + 4; sub-blocks 4..7 have four bits in byte j + 4 and the upper two bits of bytes j - 4 and j.
void scale_and_minimum(const uint8_t* packed, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4);
    *minimum = (packed[j + 4] >> 4) | (packed[j] >> 6 << 4);
  }
}

// 256 values in sub-blocks of 32; sub-blocks 2i and 2i + 1 are the low and high nibbles of bytes 32 i .. 32 i + 31. `high`, when there,
// holds bit j of a fifth bit plane for sub-block j. (d scale) q - (dmin minimum)
void k_sub_blocks(const uint8_t* head, const uint8_t* high, const uint8_t* nibbles, float* out) {
  float d = read_half(head), d_min = read_half(head + 2);
  for (int j = 0; j < 8; j++) {
    int scale, minimum;
    scale_and_minimum(head + 4, j, &scale, &minimum);
    float step = d * static_cast<float>(scale), base = d_min * static_cast<float>(minimum);
    const uint8_t* bytes = nibbles + 32 * (j / 2);
    for (int l = 0; l < 32; l++) {
      int q = j % 2 == 0 ? bytes[l] & 15 : bytes[l] >> 4;
      if (high != nullptr) q |= (high[l] >> j & 1) << 4;
      out[32 * j + l] = step * static_cast<float>(q) - base;
    }
  }
}

// [d f16][dmin f16][12 packed scales][128 nibble bytes]
void q4_k(const uint8_t* block, float* out) { k_sub_blocks(block, nullptr, block + 16, out); }

// [d f16][dmin f16][12 packed scales][32 bytes of fifth bits][128 nibble bytes]
void q5_k(const uint8_t* block, float* out) { k_sub_blocks(block, block + 16, block + 48, out); }

// [128 bytes of low nibbles][64 bytes of upper bit pairs][16 scales i8][d f16], in two halves of 128 values. In a half, quarter k (32
// values) takes the nibbles of bytes 32 (k % 2) .. + 31 (low for k < 2, else high), bit pair k, and scales 2 k and 2 k + 1. (d scale) (q -
// 32)
void q6_k(const uint8_t* block, float* out) {
  float d = read_half(block + 208);
  for (int half = 0; half < 2; half++) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    const uint8_t* scales = block + 192 + 8 * half;
    for (int k = 0; k < 4; k++) {
      for (int l = 0; l < 32; l++) {
        uint8_t byte = low[32 * (k % 2) + l];
        int q = (k < 2 ? byte & 15 : byte >> 4) | (high[l] >> (2 * k) & 3) << 4;
        float step = d * static_cast<float>(static_cast<int8_t>(scales[2 * k + l / 16]));
        out[128 * half + 32 * k + l] = step * static_cast<float>(q - 32);
      }
    }
  }
}

void f32(const uint8_t* block, float* out) { memcpy(out, block, sizeof(float)); }
void f16(const uint8_t* block, float* out) { *out = read_half(block); }
void bf16(const uint8_t* block, float* out) {
  uint16_t bits;
  memcpy(&bits, block, sizeof bits);
  *out = bits_to_float(static_cast<uint32_t>(bits) << 16);
}

struct Reader {
  GgufBlockType type;
  void (*read)(const uint8_t* block, float* out);
};

constexpr Reader kReaders[] = {
    {{0, "F32", 1, 4}, f32},        {{1, "F16", 1, 2}, f16},        {{30, "BF16", 1, 2}, bf16},     {{2, "Q4_0", 32, 18}, q4_0},
    {{3, "Q4_1", 32, 20}, q4_1},    {{6, "Q5_0", 32, 22}, q5_0},    {{7, "Q5_1", 32, 24}, q5_1},    {{8, "Q8_0", 32, 34}, q8_0},
    {{12, "Q4_K", 256, 144}, q4_k}, {{13, "Q5_K", 256, 176}, q5_k}, {{14, "Q6_K", 256, 210}, q6_k},
};

const Reader* reader_of(uint32_t type) {
  for (const Reader& reader : kReaders) {
    if (reader.type.id == type) return &reader;
  }
  return nullptr;
}

}  // namespace

const GgufBlockType* gguf_block_type(uint32_t type) {
  const Reader* reader = reader_of(type);
  return reader == nullptr ? nullptr : &reader->type;
}

void gguf_dequantize(const GgufBlockType& type, const void* blocks, int64_t count, float* out) {
  const Reader* reader = reader_of(type.id);
  const uint8_t* bytes = static_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < count; i += type.block_size, bytes += type.type_size) reader->read(bytes, out + i);
}

}  // namespace lorikeet
