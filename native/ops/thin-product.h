#pragma once

#include "core/kernel.h"

namespace lorikeet {

/// out [rows, width] = x · q for a large x, read where it lies, and a thin q [steps, width] in panels two vectors wide (ops/gemm.h).
/// Element (row, step) of x is at row * row_stride + step * step_stride, of which one is 1. f32 panels and out for 16-bit x, else of its
/// dtype. Every element is one chain of multiply-adds over the steps in rising order.
struct ThinProductArgs {
  const void* x;
  DType x_dtype;
  int64_t row_stride, step_stride;
  int64_t rows, steps;
  const void* panels;
  int64_t width;
  void* out;
};
inline constinit Kernel<ThinProductArgs> thin_product_kernel{"thin_product"};

}  // namespace lorikeet
