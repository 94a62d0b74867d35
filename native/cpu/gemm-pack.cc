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

/// Output `n` of one panel, k elements.
template <class T>
void unpack_row(Panel kind, const void* panel, int64_t n, int64_t width, int64_t k, T* out) {
  if (kind == Panel::bf16) {
    const auto* source = static_cast<const BFloat16*>(panel) + 2 * n;
    for (int64_t i = 0; i < k; ++i) store(out + i, static_cast<compute_t<T>>(load(source + i / 2 * width * 2 + i % 2)));
  } else if (kind == Panel::f32) {
    for (int64_t i = 0; i < k; ++i) store(out + i, static_cast<compute_t<T>>(static_cast<const float*>(panel)[i * width + n]));
  } else {
    for (int64_t i = 0; i < k; ++i) store(out + i, static_cast<compute_t<T>>(static_cast<const double*>(panel)[i * width + n]));
  }
}

void unpack_right(const GemmUnpackArgs& args) {
  const int64_t width = panel_width(kThisLevel, args.panel, 2);
  const int64_t stride = panel_stride(kThisLevel, args.panel, args.contraction, 2);
  parallel_for((args.outputs + width - 1) / width, [&](int64_t p) {
    const void* panel = static_cast<const char*>(args.panels) + p * stride;
    const int64_t outputs = args.outputs - p * width < width ? args.outputs - p * width : width;
    LORIKEET_FLOAT_SWITCH(args.dtype, T, {
      T* target = static_cast<T*>(args.target) + p * width * args.contraction;
      for (int64_t n = 0; n < outputs; ++n) unpack_row(args.panel, panel, n, width, args.contraction, target + n * args.contraction);
    });
  });
}

void unpack_rows(const GemmUnpackRowsArgs& args) {
  const int64_t width = panel_width(kThisLevel, args.panel, 2);
  const int64_t stride = panel_stride(kThisLevel, args.panel, args.contraction, 2);
  for_tasks(args.count * args.contraction < 16384, args.count, [&](int64_t i) {
    const void* panel = static_cast<const char*>(args.panels) + args.rows[i] / width * stride;
    LORIKEET_FLOAT_SWITCH(args.dtype, T, {
      unpack_row(args.panel, panel, args.rows[i] % width, width, args.contraction, static_cast<T*>(args.target) + i * args.contraction);
    });
  });
}

LORIKEET_KERNEL(gemm_pack_kernel, pack_right)
LORIKEET_KERNEL(gemm_unpack_kernel, unpack_right)
LORIKEET_KERNEL(gemm_unpack_rows_kernel, unpack_rows)

}  // namespace lorikeet::LORIKEET_LEVEL
