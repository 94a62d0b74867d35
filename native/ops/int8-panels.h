#pragma once

// Right operands of products of 8-bit integers. A weight is code * absmax of its row / 127. Panels are two vectors
// wide and cut along the contraction into groups of kInt8Group, each of which has its own scale in every row of the left operand:
//   for every panel, for every group:  [width] int32, -128 times the sum of the codes of the group
//                                      [group / 4][width][4] codes, the last four filled with zero
// The sums undo the offset of left codes where the instruction wants them unsigned.

#include <cstdint>

#include "core/kernel.h"
#include "ops/gemm.h"

namespace lorikeet {

/// Contraction elements of a row of the left operand that share a scale. Their sum of products stays far below 2^24: it is exact in f32.
inline constexpr int64_t kInt8Group = 128;

constexpr int64_t int8_groups(int64_t contraction) { return (contraction + kInt8Group - 1) / kInt8Group; }

/// Bytes of one panel.
constexpr int64_t int8_panel_stride(Level level, int64_t contraction) {
  return panel_width(level, Panel::int8, 2) * 4 * (int8_groups(contraction) + (contraction + 3) / 4);
}

constexpr int64_t int8_panel_bytes(Level level, int64_t outputs, int64_t contraction) {
  const int64_t width = panel_width(level, Panel::int8, 2);
  return (outputs + width - 1) / width * int8_panel_stride(level, contraction);
}

/// Panels from codes W(n, k) = codes[n * output_stride + k * contraction_stride].
struct Int8PackArgs {
  const int8_t* codes;
  int64_t outputs, contraction;
  int64_t output_stride, contraction_stride;
  void* panels;
};
inline constinit Kernel<Int8PackArgs> int8_pack_kernel{"int8_pack"};

/// Codes row-major [outputs, contraction] from panels.
struct Int8UnpackArgs {
  const void* panels;
  int64_t outputs, contraction;
  int8_t* codes;
};
inline constinit Kernel<Int8UnpackArgs> int8_unpack_kernel{"int8_unpack"};

}  // namespace lorikeet
