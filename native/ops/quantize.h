#pragma once

#include <optional>
#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"
#include "ops/quantized-matrix.h"

namespace lorikeet {

/// The 16 values of NF4, rising.
inline constexpr float kNf4Values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/// The 256 values of the signed dynamic 8-bit type, rising ("8-Bit Optimizers via Block-wise Quantization"): zero, one, and for each
/// exponent e of 7 the 2^e centres of equal parts of [0.1, 1], times 10^(e - 6), of both signs.
struct DynamicMap {
  float values[256];

  constexpr DynamicMap() : values() {
    int place = 127;
    values[place++] = 0;
    double power = 1;
    for (int e = 6; e > 0; --e) power *= 10;
    for (int e = 0; e < 7; ++e, power /= 10) {
      const int parts = 1 << e;
      for (int i = 0; i < parts; ++i) {
        const float value = (edge(i, parts) + edge(i + 1, parts)) / 2.0f * static_cast<float>(1 / power);
        values[place] = value;
        values[254 - place] = -value;
        ++place;
      }
    }
    values[place] = 1;
  }

 private:
  /// Edge i of equal parts of [0.1, 1], counted from the nearer end.
  static constexpr float edge(int i, int parts) {
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    return i < (parts + 1) / 2 ? 0.1f + step * static_cast<float>(i) : 1.0f - step * static_cast<float>(parts - i);
  }
};
inline constexpr DynamicMap kDynamicMap;

/// What an int8 code stands for: code * absmax / 127, the two products rounded one after the other.
LORIKEET_INLINE float int8_value(int8_t code, float absmax) { return static_cast<float>(code) * absmax * 0.007874015718698502f; }

/// NF4 codes of the values of x in row-major order, [ceil(numel / 2)] u8 with the first value of a pair in the high half, and the largest
/// absolute value of every block of `block`, f32. Between two codes the nearer one, of equally near ones the lower.
std::vector<Tensor> quantize_nf4(const Tensor& x, int64_t block);

/// Scales [n] f32 quantised themselves: indices of kDynamicMap [n] u8 of scale - offset, the largest absolute value of every kNestedBlock
/// of them, and the offset [1], their mean.
std::vector<Tensor> quantize_scales(const Tensor& scales);

/// Codes of a matrix [N, K], round(127 w / absmax), as the bytes of i8 in u8, and the absmax of every row [N] f32.
std::vector<Tensor> quantize_int8(const Tensor& x);

/// x [count] in blocks of `block`: codes and the absmax of each block. `rows` blocks are a matrix row each for int8.
struct QuantizeArgs {
  const void* x;
  DType dtype;
  int64_t count, block;
  uint8_t* codes;
  float* scales;
};
inline constinit Kernel<QuantizeArgs> quantize_nf4_kernel{"quantizeNf4"};
inline constinit Kernel<QuantizeArgs> quantize_int8_kernel{"quantizeInt8"};
/// x is f32; what is quantised is x - *offset.
struct QuantizeScalesArgs {
  const float* x;
  int64_t count;
  uint8_t* codes;
  float* scales;
  float* offset;
};
inline constinit Kernel<QuantizeScalesArgs> quantize_scales_kernel{"quantizeScales"};

}  // namespace lorikeet
