// The product of int8 panels by vectors: every level but those with tiles.

#include "cpu/level.h"

#include "cpu/gemm-codes.h"
#include "cpu/gemm-int8.h"
#include "cpu/int8-micro.h"
#include "cpu/int8-product.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Register blocks keep their sums from the first group to the last.
struct Int8Vectors {
  static constexpr int64_t kBlockRows = kRows;
  static int64_t passes(int64_t) { return 1; }
  void multiply(const Int8Block& block, int64_t, int64_t, float* tile) const {
    int8_micro_for(block.rows)(block.k, block.left, block.right, block.output, tile);
  }
};

void gemm_int8(const GemmArgs& args) {
  if (args.right.is_quantized()) return gemm_codes(args);
#if defined(__AVX512BF16__)
  if (args.arithmetic == Arithmetic::bf16_pairs) return run_int8<Int8Vectors, KindPairs>(args);
#endif
  run_int8<Int8Vectors, KindF32>(args);
}

}  // namespace lorikeet::LORIKEET_LEVEL
