#pragma once

#include "cpu/level.h"
#include "ops/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {

/// The product with the codes of a quantised right operand of a GGUF format; rows of x are rounded to 8 bits on the fly.
void gemm_codes(const GemmArgs& args);

}  // namespace lorikeet::LORIKEET_LEVEL
