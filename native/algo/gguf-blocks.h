#pragma once

#include <cstdint>

namespace lorikeet {

/// How one GGUF tensor type lays out its values: `block_size` consecutive values of a row share `type_size` bytes.
struct GgufBlockType {
  uint32_t id;
  const char* name;
  int block_size;
  int type_size;
};

/// The layout of a type that gguf_dequantize reads (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K), or null for any other
/// id.
const GgufBlockType* gguf_block_type(uint32_t type);

/// Writes the `count` values of the blocks at `blocks` to `out`. `count` is a multiple of the type's block size; `blocks` needs no
/// alignment.
void gguf_dequantize(const GgufBlockType& type, const void* blocks, int64_t count, float* out);

}  // namespace lorikeet
