// Floats into codes of 4 and 8 bits. A task owns whole blocks; every step is rounded in f32, so that the codes are those of bitsandbytes.

#include "cpu/level.h"

#include "cpu/row-tasks.h"
#include "ops/quantize.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Smallest scale that is divided by: a block of zeros has codes of zero.
inline constexpr float kSmallest = 1e-38f;

template <class T>
LORIKEET_INLINE float largest(const T* x, int64_t count) {
  float most = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float value = __builtin_fabsf(static_cast<float>(load(x + i)));
    most = value > most ? value : most;
  }
  return most;
}

/// Codes whose midpoint with the next one lies below the value.
LORIKEET_INLINE int nf4_code(float value) {
  int code = 0;
  for (int i = 0; i < 15; ++i) code += value > (kNf4Values[i] + kNf4Values[i + 1]) / 2.0f ? 1 : 0;
  return code;
}

/// Blocks in order; two values share a byte, and blocks have an even number of them but for the last.
template <class T>
void nf4_block(const QuantizeArgs& args, int64_t block) {
  const int64_t first = block * args.block;
  const bool whole = first + args.block <= args.count;
  const int64_t count = whole ? args.block : args.count - first;
  const T* x = static_cast<const T*>(args.x) + first;
  const float absmax = largest(x, count);
  const float divisor = absmax > kSmallest ? absmax : kSmallest;
  args.scales[block] = whole ? absmax : divisor;
  const float inverse = 1.0f / divisor;
  // A last block that is not whole is divided, the others multiplied by the inverse.
  auto code = [&](int64_t i) __attribute__((always_inline)) {
    const float value = static_cast<float>(load(x + i));
    return nf4_code(whole ? value * inverse : value / divisor);
  };
  for (int64_t i = 0; i < count; i += 2) {
    const int low = i + 1 < count ? code(i + 1) : nf4_code(0);
    args.codes[(first + i) / 2] = static_cast<uint8_t>(code(i) << 4 | low);
  }
}

void quantize_nf4(const QuantizeArgs& args) {
  for_each_row((args.count + args.block - 1) / args.block, args.block,
               [&](int64_t block) { LORIKEET_FLOAT_SWITCH(args.dtype, T, nf4_block<T>(args, block)) });
}

template <class T>
void int8_row(const QuantizeArgs& args, int64_t row) {
  const T* x = static_cast<const T*>(args.x) + row * args.block;
  auto* codes = reinterpret_cast<int8_t*>(args.codes) + row * args.block;
  const float absmax = largest(x, args.block);
  args.scales[row] = absmax;
  const float factor = absmax > 0 ? 127.0f / absmax : 0;
  for (int64_t i = 0; i < args.block; ++i) {
    const float scaled = static_cast<float>(load(x + i)) * factor;
    const float rounded = __builtin_rintf(scaled);
    codes[i] = static_cast<int8_t>(rounded > 127 ? 127 : rounded < -127 ? -127 : rounded);
  }
}

void quantize_int8(const QuantizeArgs& args) {
  for_each_row(args.block == 0 ? 0 : args.count / args.block, args.block,
               [&](int64_t row) { LORIKEET_FLOAT_SWITCH(args.dtype, T, int8_row<T>(args, row)) });
}

LORIKEET_INLINE int dynamic_code(float value) {
  int low = 0, high = 255;  // the first midpoint that is not below the value
  while (low < high) {
    const int middle = (low + high) / 2;
    if ((kDynamicMap.values[middle] + kDynamicMap.values[middle + 1]) / 2.0f < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

void quantize_scales(const QuantizeScalesArgs& args) {
  double total = 0;
  for (int64_t i = 0; i < args.count; ++i) total += static_cast<double>(args.x[i]);
  const float offset = args.count == 0 ? 0 : static_cast<float>(total / static_cast<double>(args.count));
  *args.offset = offset;
  for_each_row((args.count + kNestedBlock - 1) / kNestedBlock, kNestedBlock, [&](int64_t block) {
    const int64_t first = block * kNestedBlock;
    const int64_t count = args.count - first < kNestedBlock ? args.count - first : kNestedBlock;
    float centred[kNestedBlock];
    for (int64_t i = 0; i < count; ++i) centred[i] = args.x[first + i] - offset;
    const float absmax = largest(centred, count);
    args.scales[block] = absmax;
    const float inverse = absmax > 0 ? 1.0f / absmax : 0;
    for (int64_t i = 0; i < count; ++i) args.codes[first + i] = static_cast<uint8_t>(dynamic_code(centred[i] * inverse));
  });
}

LORIKEET_KERNEL(quantize_nf4_kernel, quantize_nf4)
LORIKEET_KERNEL(quantize_int8_kernel, quantize_int8)
LORIKEET_KERNEL(quantize_scales_kernel, quantize_scales)

}  // namespace lorikeet::LORIKEET_LEVEL
