// Codes into the panels of products of 8-bit integers and back; layout in ops/int8-panels.h.

#include "cpu/level.h"

#include "cpu/gemm-micro.h"
#include "ops/int8-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kInt8Width = 2 * kVector;

LORIKEET_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/// One group of a panel: its sums, then its codes. Returns where the next one begins.
int8_t* pack_group(const Int8PackArgs& args, int64_t first_output, int64_t first, int8_t* target) {
  const int64_t outputs = least(kInt8Width, args.outputs - first_output), count = least(kInt8Group, args.contraction - first);
  auto* sums = reinterpret_cast<int32_t*>(target);
  int8_t* codes = target + kInt8Width * 4;
  const int64_t steps = (count + 3) / 4;
  for (int64_t n = 0; n < kInt8Width; ++n) {
    const int8_t* source = args.codes + (first_output + n) * args.output_stride + first * args.contraction_stride;
    int32_t sum = 0;
    for (int64_t i = 0; i < 4 * steps; ++i) {
      const int8_t code = n < outputs && i < count ? source[i * args.contraction_stride] : static_cast<int8_t>(0);
      codes[(i / 4 * kInt8Width + n) * 4 + i % 4] = code;
      sum += code;
    }
    sums[n] = -128 * sum;
  }
  return codes + steps * kInt8Width * 4;
}

void pack_int8(const Int8PackArgs& args) {
  const int64_t stride = int8_panel_stride(kThisLevel, args.contraction);
  parallel_for((args.outputs + kInt8Width - 1) / kInt8Width, [&](int64_t p) {
    int8_t* target = static_cast<int8_t*>(args.panels) + p * stride;
    for (int64_t first = 0; first < args.contraction; first += kInt8Group) target = pack_group(args, p * kInt8Width, first, target);
  });
}

void unpack_int8(const Int8UnpackArgs& args) {
  const int64_t stride = int8_panel_stride(kThisLevel, args.contraction);
  parallel_for((args.outputs + kInt8Width - 1) / kInt8Width, [&](int64_t p) {
    const int8_t* panel = static_cast<const int8_t*>(args.panels) + p * stride;
    const int64_t outputs = least(kInt8Width, args.outputs - p * kInt8Width);
    for (int64_t n = 0; n < outputs; ++n) {
      int8_t* row = args.codes + (p * kInt8Width + n) * args.contraction;
      for (int64_t i = 0; i < args.contraction; ++i) {
        const int64_t words = (i / kInt8Group + 1 + i / 4) * kInt8Width + n;
        row[i] = panel[words * 4 + i % 4];
      }
    }
  });
}

LORIKEET_KERNEL(int8_pack_kernel, pack_int8)
LORIKEET_KERNEL(int8_unpack_kernel, unpack_int8)

}  // namespace lorikeet::LORIKEET_LEVEL
