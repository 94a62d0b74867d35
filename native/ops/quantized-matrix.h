#pragma once

// Weights kept in blocks of few bits, as kernels see them. A matrix [rows, columns] lies row-major in its blocks; values are made on the
// fly, in f32, product and sum rounded one by one in the order of the format's definition.

#include <cstdint>

#include "core/dtype.h"
#include "core/kernel.h"

namespace lorikeet {

/// The GGUF block types; `int8` = one scale per row; `nf4` = the 16 quantiles of a normal distribution ("QLoRA: Efficient Finetuning of
/// Quantized LLMs"), one scale per block of the flattened matrix; `sign` = one bit a value, two values for the whole matrix.
enum class Quantization : uint8_t { q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, int8, nf4, sign };

inline constexpr int kQuantizations = 11;

constexpr const char* name_of(Quantization format) {
  constexpr const char* names[kQuantizations] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "int8", "nf4", "sign"};
  return names[static_cast<int>(format)];
}

/// Whether a row is a whole number of blocks that hold their scales themselves.
constexpr bool is_gguf(Quantization format) { return format < Quantization::int8; }

/// Columns are decoded in groups of this many: no GGUF block type has a scale that ends inside one.
inline constexpr int64_t kQuantizedGroup = 32;
/// Scales of blocks that share one scale of their own, when scales are quantised too.
inline constexpr int64_t kNestedBlock = 256;

/// Rows whose blocks may lie side by side.
inline constexpr int64_t kRowGroup = 32;

/// What a block of 32 values begins with and goes on with: f16 scales and minima, then words of codes. Nothing for formats whose rows
/// always lie one after the other.
struct BlockParts {
  int64_t halves = 0, words = 0;
};

constexpr BlockParts parts_of(Quantization format) {
  if (format == Quantization::q4_0) return {1, 4};
  if (format == Quantization::q4_1) return {2, 4};
  if (format == Quantization::q8_0) return {1, 8};
  return {};
}

struct QuantizedMatrix {
  Quantization format;
  int64_t rows, columns;
  const uint8_t* codes;        // GGUF: blocks; int8: one signed byte a value; nf4: two values a byte, the first in the high half;
                               // sign: eight values a byte, the first in the lowest bit
  int64_t row_bytes;           // of one row of codes; 0 where rows may begin inside a byte: nf4, and sign unless columns % 8 == 0
  const float* scales;         // int8: [rows]; nf4: [blocks], or [ceil(blocks / kNestedBlock)] when scale_codes is there;
                               // sign: [2] = the values of the codes 0 and 1
  const uint8_t* scale_codes;  // nf4: indices of kDynamicMap, [blocks], or null
  const float* scale_offset;   // nf4 with scale_codes: what is added to every scale
  int64_t block;               // nf4: values that share a scale, a multiple of kQuantizedGroup
  int64_t grouped_rows = 0;    // GGUF: so many of the first rows, whole groups of kRowGroup, have the layout of ops/row-groups.h
};

/// The values of rows index[i] (or `first` + i without an index) as out[i, columns] in out_dtype.
struct DequantizeArgs {
  QuantizedMatrix matrix;
  const int64_t* index;
  int64_t first, count;
  void* out;
  DType out_dtype;
};
inline constinit Kernel<DequantizeArgs> dequantize_kernel{"dequantize"};

}  // namespace lorikeet
