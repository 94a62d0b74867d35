#pragma once

#include <cstdint>
#include <vector>

#include "core/autograd.h"
#include "ops/packed-weight.h"

namespace lorikeet {

/// Adapters of one layer, entry i of every list belonging to adapter i: a[i] [R, K], b[i] [N, R], delta scales[i] * b a. biases[i] [N] (or
/// undefined) adds scales[i] * biases[i] to the rows of the adapter. dropouts[i] drops elements of x for this adapter alone: the element at
/// its local row t and column k is kept when uniform(seeds[i], streams[i], t * K + k) >= p. Local rows count the rows of the adapter's
/// segments from 0.
struct LowRankAdapters {
  Tensors a, b, biases;
  std::vector<double> scales, dropouts;
  std::vector<uint64_t> seeds, streams;
  size_t count() const { return a.size(); }
};

/// Rows [begin, end) of x (all leading dimensions flattened) use these adapters, added in this order.
struct RowSegment {
  int64_t begin, end;
  std::vector<int64_t> adapters;
};

/// The matrix a low-rank product is added to: packed, or dense [N, K] (which may want a gradient), or none.
struct BaseWeight {
  PackedWeightPtr packed;
  Tensor dense;
};

/// What one layer computes of x: its segments say which of its adapters each row uses.
struct LowRankLayer {
  BaseWeight weight;
  Tensor bias;
  LowRankAdapters adapters;
  std::vector<RowSegment> segments;
};

/// y[.., N] = x[.., K] Wᵀ + bias + Σ_i scale_i (drop_i(x) A_iᵀ) B_iᵀ, the sum over the adapters of each row's segment; rows outside every
/// segment get the base alone. One pass: the low-rank products are further steps of the accumulators of the base product. Where the base
/// runs in bf16 pairs, A, z = x Aᵀ and scale B are rounded to bf16 for those steps; elsewhere they are f32 (f64 for f64). y has the dtype
/// of x.
///
/// Saves z only where some B wants a gradient, x only where some A or the dense weight does. Gradients of adapters and biases are f32 (f64)
/// chains over the rows of the adapter alone, in their order.
Tensor low_rank_product(const char* op, const Tensor& x, const LowRankLayer& layer);

/// The y of some layers of one x as one op, bit for bit those of each alone, as are the gradients (unless x has
/// consumers recorded after them, or a factor is that of several). dA of all of them reads x once.
/// Layers that cannot run so (more than kMostJoint, of different arithmetic, in int8 panels) run one by one.
Tensors low_rank_products(const char* op, const Tensor& x, const std::vector<LowRankLayer>& layers);

}  // namespace lorikeet
