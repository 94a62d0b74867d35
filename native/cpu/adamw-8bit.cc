#include "cpu/level.h"
#include "cpu/tensor-list.h"
#include "ops/optimizers.h"

// One pass a block of kStateBlock elements: both moments are read as scale · map[byte], updated, used, and rounded again to the nearest
// value of their map under the block's new scale. Blocks never cross a chunk, so a block has one thread. The order of roundings is that of
// `adamw`.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

static_assert(kListChunk % kStateBlock == 0);

constexpr int kMap = 256;

/// A map with the borders between neighbours: a value belongs to the entry after as many borders as lie below it.
struct Codebook {
  const float* map;
  float borders[kMap - 1];

  explicit Codebook(const float* values) : map(values) {
    for (int i = 0; i + 1 < kMap; ++i) borders[i] = (values[i] + values[i + 1]) / 2;
  }
};

/// values[i] = scale · map[bytes[i]].
LORIKEET_INLINE void dequantize(const Codebook& book, const uint8_t* bytes, float scale, float* values, int n) {
  for (int i = 0; i < n; ++i) values[i] = book.map[bytes[i]] * scale;
}

/// Rounds a block and returns its new scale. The search is a fixed number of steps without branches, so that it runs in vectors.
LORIKEET_INLINE float quantize(const Codebook& book, const float* values, uint8_t* bytes, int n) {
  // The order of magnitudes is that of their bits.
  uint32_t largest = 0;
  for (int i = 0; i < n; ++i) {
    uint32_t bits = float_to_bits(values[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  const float scale = bits_to_float(largest), divisor = largest == 0 ? 1.0f : scale;
  int32_t codes[kStateBlock];
  float x[kStateBlock];
  for (int i = 0; i < n; ++i) {
    x[i] = values[i] / divisor;
    codes[i] = 0;
  }
  for (int32_t step = kMap / 2; step > 0; step /= 2) {
    for (int i = 0; i < n; ++i) codes[i] += x[i] > book.borders[codes[i] + step - 1] ? step : 0;
  }
  for (int i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(codes[i]);
  return scale;
}

struct Numbers {
  float scale, keep, beta1, weight1, beta2, weight2, eps, step, correction;
};

template <class T>
LORIKEET_INLINE void update_block(const Numbers& a, T* p, const T* g, float* m, float* v, int n) {
  for (int i = 0; i < n; ++i) {
    float gradient = static_cast<float>(load(g + i)) * a.scale;
    float m1 = m[i] * a.beta1 + a.weight1 * gradient;
    float v1 = v[i] * a.beta2 + a.weight2 * gradient * gradient;
    m[i] = m1;
    v[i] = v1;
    store(p + i, static_cast<float>(load(p + i)) * a.keep + a.step * m1 / (__builtin_sqrtf(v1) / a.correction + a.eps));
  }
}

template <class T>
void run(const Numbers& a, const Codebook& first_map, const Codebook& second_map, const ListEntry& entry, int64_t first, int64_t last) {
  auto p = static_cast<T*>(entry.data[0]);
  auto g = static_cast<const T*>(entry.data[1]);
  auto m_bytes = static_cast<uint8_t*>(entry.data[2]), v_bytes = static_cast<uint8_t*>(entry.data[3]);
  auto m_scales = static_cast<float*>(entry.data[4]), v_scales = static_cast<float*>(entry.data[5]);
  float m[kStateBlock], v[kStateBlock];
  for (int64_t start = first; start < last; start += kStateBlock) {
    const int n = static_cast<int>(last - start < kStateBlock ? last - start : kStateBlock);
    const int64_t block = start / kStateBlock;
    dequantize(first_map, m_bytes + start, m_scales[block], m, n);
    dequantize(second_map, v_bytes + start, v_scales[block], v, n);
    update_block(a, p + start, g + start, m, v, n);
    m_scales[block] = quantize(first_map, m, m_bytes + start, n);
    v_scales[block] = quantize(second_map, v, v_bytes + start, n);
  }
}

void adamw_8bit(const Adamw8bitArgs& a) {
  const Codebook first_map(a.signed_map), second_map(a.unsigned_map);
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
    const Numbers numbers{static_cast<float>(a.scale),         static_cast<float>(1 - a.rate * a.decay),
                          static_cast<float>(a.beta1),         static_cast<float>(1 - a.beta1),
                          static_cast<float>(a.beta2),         static_cast<float>(1 - a.beta2),
                          static_cast<float>(a.eps),           static_cast<float>(-entry.scalars[0]),
                          static_cast<float>(entry.scalars[1])};
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, (run<T>(numbers, first_map, second_map, entry, first, last)))
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(adamw_8bit_kernel, lorikeet::LORIKEET_LEVEL::adamw_8bit)
