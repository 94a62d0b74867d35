#pragma once

#include "cpu/level.h"
#include "ops/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {

/// The driver of the packed product, for kernels of the same level.
void gemm(const GemmArgs& args);

}  // namespace lorikeet::LORIKEET_LEVEL
