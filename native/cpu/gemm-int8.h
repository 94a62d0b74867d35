#pragma once

#include "cpu/level.h"
#include "ops/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {

/// The product of a right operand in int8 panels; rows of x are quantised on the fly.
void gemm_int8(const GemmArgs& args);

}  // namespace lorikeet::LORIKEET_LEVEL
