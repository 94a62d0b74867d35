#include "ops/gemm.h"

namespace lorikeet {

Level gemm_level() {
  for (int level = static_cast<int>(active_level()); level > 0; --level) {
    if (gemm_kernel.functions[level] != nullptr) return static_cast<Level>(level);
  }
  return Level::scalar;
}

}  // namespace lorikeet
