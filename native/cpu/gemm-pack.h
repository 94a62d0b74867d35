#pragma once

// Packing of both operands of a product, shared by the kernels that use it.

#include "cpu/gemm-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Two bf16 values as one word, the lower contraction index in the lower half.
LORIKEET_INLINE uint32_t pair_of(BFloat16 low, BFloat16 high) { return low.bits | (static_cast<uint32_t>(high.bits) << 16); }

template <class T>
LORIKEET_INLINE BFloat16 as_bf16(const T* p) {
  return to_bf16(static_cast<float>(load(p)));
}
LORIKEET_INLINE BFloat16 as_bf16(const BFloat16* p) { return *p; }

/// A left block of `rows` <= kRows rows: left[k][kRows] in Kind's element, filled with zero to a whole number of steps. Rows past `rows` stay
/// undefined.
template <class Kind, class T>
void pack_left(typename Kind::Left* left, const T* x, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t k) {
  if constexpr (Kind::kDepth == 2 && Kind::kLeftRows == 1) {
    for (int64_t row = 0; row < rows; ++row) {
      const T* source = x + row * row_stride;
      for (int64_t step = 0; step < k / 2; ++step) {
        left[step * kRows + row] = pair_of(as_bf16(source), as_bf16(source + column_stride));
        source += 2 * column_stride;
      }
      if (k % 2) left[k / 2 * kRows + row] = pair_of(as_bf16(source), BFloat16{0});
    }
  } else {
    for (int64_t row = 0; row < rows; ++row) {
      const T* source = x + row * row_stride;
      for (int64_t i = 0; i < k; ++i) left[i * kRows + row] = static_cast<typename Kind::Left>(load(source + i * column_stride));
      for (int64_t i = k; i < steps_of<Kind>(k) * Kind::kDepth; ++i) left[i * kRows + row] = 0;
    }
  }
}

template <class Out, class T>
void fill_panel(const GemmPackArgs& args, const T* source, int64_t outputs, int64_t width, Out* panel) {
  const auto scale = static_cast<Out>(args.scale);
  for (int64_t i = 0; i < args.contraction; ++i) {
    const T* from = source + i * args.contraction_stride;
    for (int64_t n = 0; n < outputs; ++n) panel[n] = static_cast<Out>(load(from + n * args.output_stride)) * scale;
    for (int64_t n = outputs; n < width; ++n) panel[n] = 0;
    panel += width;
  }
}

/// One right panel: panel[k][width] (f32, f64) or panel[k / 2][width][2] (bf16) of `outputs` <= width outputs, zero beyond them.
template <class T>
void pack_panel(const GemmPackArgs& args, const T* source, int64_t outputs, int64_t width, void* panel) {
  const int64_t k = args.contraction, output_stride = args.output_stride, step = args.contraction_stride;
  if (args.panel == Panel::bf16) {
    auto* out = static_cast<BFloat16*>(panel);
    const auto scale = static_cast<float>(args.scale);
    for (int64_t i = 0; i < k + k % 2; ++i) {
      BFloat16* target = out + i / 2 * width * 2 + i % 2;
      const int64_t filled = i < k ? outputs : 0;
      if (args.scale == 1) {
        for (int64_t n = 0; n < filled; ++n) target[2 * n] = as_bf16(source + n * output_stride + i * step);
      } else {
        for (int64_t n = 0; n < filled; ++n) target[2 * n] = to_bf16(static_cast<float>(load(source + n * output_stride + i * step)) * scale);
      }
      for (int64_t n = filled; n < width; ++n) target[2 * n] = BFloat16{0};
    }
    return;
  }
  if (args.panel == Panel::f64) {
    fill_panel(args, source, outputs, width, static_cast<double*>(panel));
  } else {
    fill_panel(args, source, outputs, width, static_cast<float*>(panel));
  }
}

/// All panels of a right operand, in parallel when there is enough of it.
void pack_right(const GemmPackArgs& args);

/// Runs body(t) for t in [0, tasks): on this thread when the whole is small.
template <class Body>
LORIKEET_INLINE void for_tasks(bool small, int64_t tasks, const Body& body) {
  if (small || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
  } else {
    parallel_for(tasks, body);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
