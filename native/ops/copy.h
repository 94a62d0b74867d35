#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// x itself when it is contiguous, else a contiguous copy. Differentiable.
Tensor contiguous(const Tensor& x);
/// A contiguous copy in new memory. Differentiable.
Tensor clone(const Tensor& x);
/// x in another dtype; x itself when it has it already. Float to integer truncates. Differentiable between floats.
Tensor cast(const Tensor& x, DType dtype);
/// Overwrites `target` (in place) with `source`, broadcast and cast. Not recorded.
void copy_into(const Tensor& target, const Tensor& source);
/// Fills `target` in place with a number. Not recorded.
void fill(const Tensor& target, double value);
/// x on another device. Not recorded.
Tensor to_device(const Tensor& x, Device device);

/// Strided copy with conversion: sizes and strides in elements, `rank` dimensions.
struct CopyArgs {
  const void* from;
  DType from_dtype;
  void* to;
  DType to_dtype;
  int rank;
  int64_t sizes[8];
  int64_t from_strides[8];
  int64_t to_strides[8];
};
inline constinit Kernel<CopyArgs> copy_kernel{"copy"};

}  // namespace lorikeet
