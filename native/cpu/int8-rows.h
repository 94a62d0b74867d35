#pragma once

// Rows of a left operand as 8-bit integers: code = round(x * 127 / largest absolute value of the group), ties to even, and the scale
// largest / 127 of every group of kInt8Group.

#include <cstring>

#include "cpu/gemm-micro.h"
#include "ops/int8-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AVX512VNNI__) && !defined(__AMX_INT8__)
inline constexpr uint8_t kCodeOffset = 128;  // the instruction wants left codes unsigned
#else
inline constexpr uint8_t kCodeOffset = 0;
#endif
/// Quantised rows: codes of row i at codes + i * row_stride, its scales at scales + i * groups.
struct Int8Rows {
  const uint8_t* codes;
  const float* scales;
  int64_t row_stride, groups;
};

/// A group whose largest value is smaller is one of zeros.
inline constexpr float kSmallestScaled = 1e-30f;
inline constexpr int32_t kInfinityBits = 0x7f800000;

/// Codes, plus Offset, and scale of one group of `count` values; with infinite or NaN values the scale is NaN.
template <uint8_t Offset>
LORIKEET_INLINE float quantize_values(const float* values, int32_t largest_bits, int64_t count, uint8_t* codes) {
  const float largest = bits_to_float(static_cast<uint32_t>(largest_bits));
  const bool finite = largest_bits < kInfinityBits;
  const float factor = finite && largest > kSmallestScaled ? 127.0f / largest : 0.0f;
  // Adding 1.5 * 2^23 rounds to an integer, which then lies in the low bits.
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = finite ? values[i] * factor : 0.0f;
    codes[i] = static_cast<uint8_t>(float_to_bits(scaled + 12582912.0f) + Offset);
  }
  return finite ? (factor > 0 ? largest / 127.0f : 0.0f) : __builtin_nanf("");
}

template <int64_t Count, uint8_t Offset = kCodeOffset, class T>
LORIKEET_INLINE float quantize_group(const T* x, int64_t stride, const float* factors, int64_t rest, uint8_t* codes) {
  alignas(64) float values[kInt8Group];
  const int64_t count = Count > 0 ? Count : rest;
  if (stride == 1) {
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(load(x + i));
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(load(x + i * stride));
  }
  if (factors != nullptr) {
    for (int64_t i = 0; i < count; ++i) values[i] *= factors[i];
  }
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<int32_t>(float_to_bits(values[i]) & 0x7fffffffu);
    largest = bits > largest ? bits : largest;
  }
  return quantize_values<Offset>(values, largest, count, codes);
}

/// One row of k values, each times its entry of `factors` (or none). `codes` has room for k rounded up to a multiple of four.
template <class T>
void quantize_row(const T* x, int64_t stride, const float* factors, int64_t k, uint8_t* codes, float* scales) {
  for (int64_t first = 0; first < k; first += kInt8Group) {
    const float* part = factors == nullptr ? nullptr : factors + first;
    const int64_t rest = k - first;
    scales[first / kInt8Group] = rest >= kInt8Group ? quantize_group<kInt8Group>(x + first * stride, stride, part, rest, codes + first)
                                                    : quantize_group<0>(x + first * stride, stride, part, rest, codes + first);
  }
  for (int64_t i = k; i % 4 != 0; ++i) codes[i] = kCodeOffset;
}

}  // namespace lorikeet::LORIKEET_LEVEL
