#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// The rows of `weight` [V, D] named by `ids` (i64 or i32, any shape): ids' shape + [D]. An id outside [0, V) fails when the work runs,
/// naming the id and V. Differentiable in weight: every row sums, in f32 and in the order of the ids, the gradients of its uses.
Tensor embedding(const Tensor& weight, const Tensor& ids);

/// Slices of x along `dim` in the order of `index` ([K], i64 or i32), any dtype: x's shape with K in place of dim's size. Differentiable in
/// x when it floats.
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);

/// x is [outer, size, run] and out [outer, count, run] in bytes: out[o, k] = x[o, index[k]].
struct IndexSelectArgs {
  const void* x;
  const int64_t* index;
  void* out;
  int64_t outer, size, count, run;
};
inline constinit Kernel<IndexSelectArgs> index_select_kernel{"indexSelect"};

/// out [outer, size, inner] is zero but at the targets: out[o, target[s]] = Σ dy[o, order[i]] over i in [first[s], first[s + 1]), dy
/// [outer, count, inner].
struct IndexAddArgs {
  DType dtype;
  const void* dy;
  void* out;
  int64_t outer, size, count, inner;
  const int64_t* order;
  const int64_t* first;
  const int64_t* target;
  int64_t targets;
};
inline constinit Kernel<IndexAddArgs> index_add_kernel{"indexSelect backward"};

/// Throws unless indices are i64 or i32.
void check_index_dtype(const char* op, const Tensor& index);
/// Throws for an id that is no row of a table; inside stream work.
void check_ids(const char* op, const int64_t* ids, int64_t count, int64_t rows);

}  // namespace lorikeet
