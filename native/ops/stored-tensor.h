#pragma once

#include <string>

#include "core/tensor.h"

namespace lorikeet {

// Tensors whose values come from a file. `file_bytes` is the size of the file when its header was read; a file that has changed size since,
// or a range that is not inside it, is an io error. None of them is differentiable.

/// The elements stored from byte `offset` on, in the file's own memory: nothing is copied, pages are read when first touched, and the
/// tensor cannot be changed in place. A range that is not aligned for `dtype` is copied instead.
Tensor mapped_tensor(const std::string& path, int64_t file_bytes, int64_t offset, DType dtype, const Shape& shape);

/// The values of GGUF blocks of the given type number as f32 (see algo/gguf-blocks.h). The last dimension is a whole number of blocks. With
/// `interleaved_heads` = H > 0 the rows [H K, ...] are stored in interleaved rotary order: in a head of K rows, row 2 j + s of the file
/// becomes row s K / 2 + j.
Tensor gguf_tensor(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                   int64_t interleaved_heads);

/// The blocks themselves, as bytes [rows * bytes of a row], with whole rows in the order of gguf_tensor's.
Tensor gguf_blocks(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                   int64_t interleaved_heads);

/// The bytes of x in row-major order as a u8 tensor [numel * size of the dtype]: a view of x when x is contiguous.
Tensor as_bytes(const Tensor& x);

}  // namespace lorikeet
