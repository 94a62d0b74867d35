#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/quantized-matrix.h"

namespace lorikeet {

/// The memory of a weight [N, K] in blocks; see QuantizedMatrix for what the tensors hold. Those that a format has no use for are
/// undefined.
struct QuantizedWeight {
  Quantization format;
  Shape shape;
  int64_t block;
  Tensor codes, scales, scale_codes, scale_offset;
  int64_t grouped_rows = 0;

  int64_t bytes() const;
  std::vector<Tensor> tensors() const;
  /// The pointers; inside stream work.
  QuantizedMatrix matrix() const;
};
using QuantizedWeightPtr = std::shared_ptr<const QuantizedWeight>;

/// A weight from its parts (see ops/quantize.h), checked to fit `shape` [N, K]. `block` is the values that share a scale of nf4.
QuantizedWeightPtr quantized_weight(Quantization format, const Shape& shape, int64_t block, const Tensor& codes, const Tensor& scales,
                                    const std::optional<Tensor>& scale_codes, const std::optional<Tensor>& scale_offset);

/// The blocks of a tensor [N, K] of a GGUF file, bit for bit, in groups of rows where the level in force reads them faster so; arguments
/// and errors of gguf_tensor. Float types are an error.
QuantizedWeightPtr gguf_weight(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                               int64_t interleaved_heads);

/// Rows [first, first + count) as [count, K] in `dtype`.
Tensor dequantize_rows(const QuantizedWeightPtr& weight, int64_t first, int64_t count, DType dtype);
/// The rows named by `ids` (i64 or i32, any shape): ids' shape + [K]. An id outside [0, N) fails when the work runs.
Tensor dequantize_rows_at(const QuantizedWeightPtr& weight, const Tensor& ids, DType dtype);

}  // namespace lorikeet
