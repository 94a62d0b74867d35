#pragma once

// Random matrices in the block types of GGUF files.

#include <cstring>
#include <random>
#include <vector>

#include "algo/gguf-blocks.h"
#include "ops/quantized-matrix.h"

namespace lorikeet::tests {

inline std::mt19937 block_generator(11);

inline std::vector<float> random_floats(int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(block_generator);
  return values;
}

/// A quantised matrix with random codes and the values that a plain reader gives it.
struct Weight {
  QuantizedMatrix matrix{};
  std::vector<uint8_t> codes, scale_codes;
  std::vector<float> scales, values;
  float offset = 0.25f;
};

inline void store_half(uint8_t* p, float value) {
  const auto half = static_cast<Float16>(value);
  std::memcpy(p, &half, sizeof half);
}

inline constexpr uint32_t kTypes[] = {2, 3, 6, 7, 8, 12, 13, 14};

inline void make_gguf(Weight& w, Quantization format, int64_t rows, int64_t columns) {
  const GgufBlockType& type = *gguf_block_type(kTypes[static_cast<int>(format)]);
  const int64_t blocks = rows * columns / type.block_size;
  w.codes.resize(static_cast<size_t>(blocks * type.type_size));
  for (uint8_t& byte : w.codes) byte = static_cast<uint8_t>(block_generator());
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < blocks; ++i) {
    uint8_t* block = w.codes.data() + i * type.type_size;
    const bool scale_last = format == Quantization::q6_k;
    store_half(scale_last ? block + 208 : block, normal(block_generator));
    if (!scale_last && format != Quantization::q4_0 && format != Quantization::q5_0 && format != Quantization::q8_0) {
      store_half(block + 2, normal(block_generator));
    }
  }
  w.values.resize(static_cast<size_t>(rows * columns));
  gguf_dequantize(type, w.codes.data(), rows * columns, w.values.data());
  w.matrix = {format, rows, columns, w.codes.data(), columns / type.block_size * type.type_size, nullptr, nullptr, nullptr, 0};
}

}  // namespace lorikeet::tests
