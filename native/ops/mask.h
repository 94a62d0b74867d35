#pragma once

#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"
#include "ops/tensor-list.h"

namespace lorikeet {

// Masks over the n entries of a tensor, row by row. A bitmask is u8 [ceil(n / 8)]: entry i is bit i % 8 of byte i / 8, lowest first; bits
// from n on count for nothing. An index list is i32 [owned], rising. Nothing here is recorded but what says so.

/// The bitmasks of the k entries of the largest magnitude in all tensors together, exactly: of equal ones those that come first are taken,
/// tensor by tensor; NaN counts as larger than everything. Floating tensors, all of f64 or none. 0 <= k <= number of entries.
std::vector<Tensor> top_k_mask(const std::vector<Tensor>& xs, int64_t k);

/// How many of its first n entries a bitmask owns: i64, one number.
Tensor mask_count(const Tensor& bits, int64_t n);

/// The places that a bitmask of n entries owns, i32 [count]. Fails when the work runs unless it owns `count`.
Tensor mask_indices(const Tensor& bits, int64_t n, int64_t count);

/// The bitmask of n entries that owns the places of an index list. Fails when the work runs unless they rise and lie below n.
Tensor index_mask(const Tensor& indices, int64_t n);

/// The bitmask of the elements of a matrix [rows, columns] whose blocks of block x block a bitmask over the grid of blocks owns. The block
/// divides rows and columns.
Tensor expand_block_mask(const Tensor& bits, int64_t rows, int64_t columns, int64_t block);

/// What a mask owns of x, one after the other: [count], or [count, block, block] of a matrix x in whose grid of blocks the mask owns
/// entries. `mask` is a bitmask (u8) or an index list (i32). Differentiable.
Tensor masked_gather(const Tensor& x, const Tensor& mask, int64_t count, int64_t block);

/// Overwrites what a mask owns of `target` (in place) with `values`, as of `masked_gather`. Not recorded.
void masked_scatter(const Tensor& target, const Tensor& mask, const Tensor& values, int64_t block);

/// `x` with what a mask owns replaced by `values`, or with `values` added to it. Differentiable in both.
Tensor masked_update(const Tensor& x, const Tensor& mask, const Tensor& values, bool adds, int64_t block);

/// A mask for a kernel: `bits` of `size` entries with the number of owned ones before each chunk, or `indices`. A task is `chunk` entries
/// of the bitmask, a multiple of 64, or of the list.
struct OwnedEntries {
  const uint8_t* bits;
  const int64_t* offsets;
  const int32_t* indices;
  int64_t size, count, chunk;

  int64_t tasks() const { return ((bits != nullptr ? size : count) + chunk - 1) / chunk; }
};

/// A mask inside stream work, with the memory of its offsets. Throws unless it owns `count` places below `size`.
class MaskReader {
 public:
  MaskReader(const char* op, const Tensor& mask, int64_t size, int64_t count, int64_t chunk);
  const OwnedEntries& entries() const { return entries_; }

 private:
  std::vector<int64_t> offsets_;
  OwnedEntries entries_;
};

/// Throws unless `mask` is a bitmask of `size` entries or an index list of `count`.
void check_mask(const char* op, const Tensor& mask, int64_t size, int64_t count);

/// Entries: data = x, bits. `k` in all.
struct TopKMaskArgs {
  ListArgs list;
  int64_t k;
};
inline constinit Kernel<TopKMaskArgs> top_k_mask_kernel{"topKMask"};

/// counts[c] = owned entries of chunk c.
struct MaskCountArgs {
  const uint8_t* bits;
  int64_t size, chunk;
  int64_t* counts;
};
inline constinit Kernel<MaskCountArgs> mask_count_kernel{"maskCount"};

struct MaskIndicesArgs {
  OwnedEntries mask;
  int32_t* out;
};
inline constinit Kernel<MaskIndicesArgs> mask_indices_kernel{"maskIndices"};

/// dense, of elements of `bytes` each, to compact or back. With block > 1 the mask is over the blocks of a matrix of `columns`.
struct MaskedCopyArgs {
  OwnedEntries mask;
  int64_t bytes, block, columns;
  void* dense;
  void* compact;
  bool to_compact;
};
inline constinit Kernel<MaskedCopyArgs> masked_copy_kernel{"maskedCopy"};

}  // namespace lorikeet
