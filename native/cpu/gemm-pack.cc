// Right operands into panels and back; layouts in ops/gemm.h.

#include "cpu/level.h"

#include "cpu/gemm-pack.h"

namespace lorikeet::LORIKEET_LEVEL {

void pack_right(const GemmPackArgs& args) {
  const int64_t width = panel_width(kThisLevel, args.panel, args.vectors);
  const int64_t stride = panel_stride(kThisLevel, args.panel, args.contraction, args.vectors);
  const int64_t panels = (args.outputs + width - 1) / width;
  for_tasks(args.outputs * args.contraction < 16384, panels, [&](int64_t p) {
    const int64_t first = p * width;
    const int64_t outputs = args.outputs - first < width ? args.outputs - first : width;
    char* panel = static_cast<char*>(args.panels) + p * stride;
    LORIKEET_FLOAT_SWITCH(args.dtype, T,
                          pack_panel(args, static_cast<const T*>(args.source) + first * args.output_stride, outputs, width, panel));
  });
}

template <class T>
void unpack_panel(const GemmUnpackArgs& args, const void* panel, int64_t first, int64_t width) {
  const int64_t k = args.contraction;
  const int64_t outputs = args.outputs - first < width ? args.outputs - first : width;
  T* target = static_cast<T*>(args.target) + first * k;
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t i = 0; i < k; ++i) {
      T* out = target + n * k + i;
      if (args.panel == Panel::bf16) {
        store(out, static_cast<compute_t<T>>(load(static_cast<const BFloat16*>(panel) + (i / 2 * width + n) * 2 + i % 2)));
      } else if (args.panel == Panel::f32) {
        store(out, static_cast<compute_t<T>>(static_cast<const float*>(panel)[i * width + n]));
      } else {
        store(out, static_cast<compute_t<T>>(static_cast<const double*>(panel)[i * width + n]));
      }
    }
  }
}

void unpack_right(const GemmUnpackArgs& args) {
  const int64_t width = panel_width(kThisLevel, args.panel, 2);
  const int64_t stride = panel_stride(kThisLevel, args.panel, args.contraction, 2);
  parallel_for((args.outputs + width - 1) / width, [&](int64_t p) {
    const void* panel = static_cast<const char*>(args.panels) + p * stride;
    LORIKEET_FLOAT_SWITCH(args.dtype, T, unpack_panel<T>(args, panel, p * width, width));
  });
}

LORIKEET_KERNEL(gemm_pack_kernel, pack_right)
LORIKEET_KERNEL(gemm_unpack_kernel, unpack_right)

}  // namespace lorikeet::LORIKEET_LEVEL
