#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// y[.., k, ..] = x[.., index[.., k, ..], ..] along `dim`; index (i64 or i32) has x's shape but for dim, and gives y its shape. Any dtype
/// of x. Differentiable in x when it floats (see scatter_add).
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);

/// y = x, then y[.., index[.., k, ..], ..] += source[.., k, ..] along `dim`, in order of k and in f32 (f64 for f64), rounded once. source
/// has index's shape and x's floating dtype. Differentiable in x and source. An index outside dim fails when the work runs, naming it.
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);

/// x [outer, size, inner], index and source [outer, count, inner]; out is [outer, count, inner] for gather and [outer, size, inner] for
/// scatter_add.
struct GatherArgs {
  DType dtype;
  const void* x;  // null in scatter_add: zeros
  const int64_t* index;
  const void* source;
  void* out;
  int64_t outer, size, count, inner;
};
inline constinit Kernel<GatherArgs> gather_kernel{"gather"};
inline constinit Kernel<GatherArgs> scatter_add_kernel{"scatterAdd"};

}  // namespace lorikeet
