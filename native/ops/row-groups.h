#pragma once

// GGUF blocks of kRowGroup rows side by side, so that one load brings what as many outputs of a product need next:
//   [row groups][blocks of a row][halves][kRowGroup] f16, each followed by [words][kRowGroup] u32.
// The bytes are those of the blocks in another order.

#include <cstdint>

#include "ops/quantized-matrix.h"

namespace lorikeet {

/// How many of `rows` rows the level in force wants in groups.
int64_t grouped_rows_of(Quantization format, int64_t rows);

/// Brings `rows` rows of row_bytes bytes (whole groups) into this layout, in place.
void group_rows(Quantization format, int64_t rows, int64_t row_bytes, uint8_t* codes);

}  // namespace lorikeet
