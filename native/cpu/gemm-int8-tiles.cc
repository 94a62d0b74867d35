// The product of int8 panels by tiles, with the bits of the level below: integer sums are exact, and all that is rounded is its code.

#include "cpu/level.h"

#if defined(__AMX_INT8__)

#include "core/tiles.h"
#include "cpu/gemm-int8.h"
#include "cpu/int8-product.h"
#include "cpu/int8-tiles.h"
#include "cpu/tile-amx.h"
#include "cpu/tile-emulated.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Tiles of i32 have room for the sums of one group: what they become is kept in memory, and the contraction cut into passes that keep a
/// panel in a level-1 cache.
template <class Tiles>
class Int8Tiles {
 public:
  static constexpr int64_t kBlockRows = kTileBlock;
  static constexpr int64_t kPassGroups = 4, kOnePassGroups = 6;
  static_assert(2 * kVector == kTileBlock);

  static int64_t passes(int64_t groups) { return groups > kOnePassGroups ? ceil_div(groups, kPassGroups) : 1; }

  void multiply(const Int8Block& block, int64_t begin, int64_t end, float* tile) {
    int8_tile_product(region_, block.rows, block.k, block.left, block.right, begin, end, last_, tile);
    if (end < block.left.groups || block.output == nullptr) return;
    for (int64_t row = 0; row < block.rows; ++row) {
      for (int64_t j = 0; j < kTileBlock; ++j) tile[row * kTileBlock + j] *= block.output[j];
    }
  }

 private:
  TileRegion<Tiles> region_;
  LastStep last_;
};

template <class Tiles>
static void run_int8_tiles(const GemmArgs& args) {
  if (args.arithmetic == Arithmetic::bf16_pairs) return run_int8<Int8Tiles<Tiles>, KindPairs>(args);
  run_int8<Int8Tiles<Tiles>, KindF32>(args);
}

void gemm_int8(const GemmArgs& args) {
  if (args.right.is_quantized()) return gemm_kernel.at_level(Level::avx512_bf16)(args);
  if (tiles_emulated()) return run_int8_tiles<EmulatedTiles>(args);
  run_int8_tiles<AmxTiles>(args);
}

}  // namespace lorikeet::LORIKEET_LEVEL

#endif
