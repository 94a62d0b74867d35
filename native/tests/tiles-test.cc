// Tile products without tile registers: the permission of the system, the emulated instructions against their definition, and the register
// blocks and packing of cpu/tile-*.h over that policy against double arithmetic. Runs on every machine.

#include "core/tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/int8-tiles.h"
#include "cpu/tile-emulated.h"
#include "cpu/tile-operands.h"
#include "tests/buffers.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

using scalar::EmulatedTiles;
using scalar::kTileBlock;
using tests::Buffer;
using tests::random_buffer;

/// A system whose answers are set, and what it was asked.
struct {
  bool has_tiles;
  long get_result, request_result;
  unsigned long states, states_after_request;
  int requests;
} played;

bool played_cpu() { return played.has_tiles; }
long played_prctl(int code, unsigned long argument) {
  if (code == 0x1022) {
    *reinterpret_cast<unsigned long*>(argument) = played.states;
    return played.get_result;
  }
  ++played.requests;
  if (played.request_result == 0) played.states = played.states_after_request;
  return code == 0x1023 && argument == 18 ? played.request_result : -1;
}

NATIVE_TEST(tiles_need_permission) {
  const TileSystem system{played_cpu, played_prctl};
  const unsigned long without = 0xff, with = 0xff | 1ul << 18;
  played = {true, 0, 0, without, with, 0};
  EXPECT(request_tiles(system) && played.requests == 1, "granted on request");
  played = {true, 0, 0, with, with, 0};
  EXPECT(request_tiles(system) && played.requests == 0, "held already");
  played = {true, 0, -28, without, with, 0};
  EXPECT(!request_tiles(system) && played.requests == 1, "refused: no room on an alternate signal stack");
  played = {true, 0, 0, without, without, 0};
  EXPECT(!request_tiles(system) && played.requests == 1, "granted, but not there");
  played = {true, -22, -22, with, with, 0};
  EXPECT(!request_tiles(system), "a kernel that does not know the call");
  played = {false, 0, 0, with, with, 0};
  EXPECT(!request_tiles(system) && played.requests == 0, "a processor without tiles");
}

uint32_t pair(float even, float odd) { return to_bf16(even).bits | static_cast<uint32_t>(to_bf16(odd).bits) << 16; }

NATIVE_TEST(tiles_emulated_instructions) {
  alignas(64) uint32_t a[3][16] = {}, b[16][16] = {};
  alignas(64) float c[3][16] = {};
  EmulatedTiles::configure({3, 0, 0, 0, 3, 0, 16, 0});
  const auto product = [&] {
    EmulatedTiles::load<4>(a, 64);
    EmulatedTiles::load<6>(b, 64);
    EmulatedTiles::load<0>(c, 64);
    EmulatedTiles::dot<0, 4, 6>();
    EmulatedTiles::store<0>(c, 64);
  };
  a[1][0] = pair(2, 3);
  a[1][15] = pair(5, 7);
  b[0][4] = pair(11, 13);
  b[15][4] = pair(17, 19);
  c[1][4] = 0.5f;
  c[2][0] = 1;
  product();
  EXPECT(c[1][4] == 0.5f + 2 * 11 + 3 * 13 + 5 * 17 + 7 * 19, "sum of pairs: %g", static_cast<double>(c[1][4]));
  EXPECT(c[2][0] == 1 && c[1][3] == 0 && c[0][4] == 0, "other elements");

  // Even and odd elements are summed apart: 2^30 and -2^30 meet before 1 is added to the sum, and 1 is lost in a chain with 2^30.
  a[0][0] = pair(1, 1);
  b[0][0] = pair(0x1p30f, -0x1p30f);
  c[0][0] = 1;
  product();
  EXPECT(c[0][0] == 1, "two chains: %g", static_cast<double>(c[0][0]));
  b[0][0] = pair(0x1p30f, 1);
  a[0][1] = pair(1, 0);
  b[1][0] = pair(-0x1p30f, 0);
  c[0][0] = 0;
  product();
  EXPECT(c[0][0] == 1, "order of a chain: %g", static_cast<double>(c[0][0]));

  std::memset(a, 0, sizeof a);
  a[0][0] = pair(1, 0);
  b[0][0] = 1;  // the smallest denormal number
  c[0][0] = 0x1p-130f;
  product();
  EXPECT(c[0][0] == 0, "denormal numbers are zero: %g", static_cast<double>(c[0][0]));
  a[0][0] = pair(0x1p-100f, 0);
  b[0][0] = pair(0x1p-40f, 0);
  product();
  EXPECT(c[0][0] == 0, "denormal results are zero: %g", static_cast<double>(c[0][0]));
  a[0][0] = pair(std::numeric_limits<float>::infinity(), 0);
  b[0][0] = pair(0, 0);
  product();
  EXPECT(std::isnan(c[0][0]), "inf times zero");
  EmulatedTiles::release();
}

NATIVE_TEST(tiles_emulated_bytes) {
  alignas(64) int8_t a[5][64], b[16][16][4];
  alignas(64) int32_t c[5][16], expected[5][16];
  auto any = [] { return static_cast<int8_t>(tests::generator()); };
  for (auto& row : a) std::generate(row, row + 64, any);
  for (auto& row : b) {
    for (auto& group : row) std::generate(group, group + 4, any);
  }
  a[0][0] = b[0][0][0] = -128;
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 16; ++j) {
      c[i][j] = expected[i][j] = i * 1000 - j;
      for (int k = 0; k < 64; ++k) expected[i][j] += a[i][k] * b[k / 4][j][k % 4];
    }
  }
  EmulatedTiles::configure({5, 0, 0, 0, 5, 0, 16, 0});
  EmulatedTiles::load<4>(a, 64);
  EmulatedTiles::load<6>(b, 64);
  EmulatedTiles::load<0>(c, 64);
  EmulatedTiles::dot_i8<0, 4, 6>();
  EmulatedTiles::store<0>(c, 64);
  EmulatedTiles::release();
  EXPECT(std::memcmp(c, expected, sizeof c) == 0, "signed bytes in groups of four");
}

/// Pairs of rows of `w` as a panel `vectors` vectors wide, by its definition in ops/gemm.h.
std::vector<uint16_t> panel_of(const Buffer& w, int64_t outputs, int64_t k, int vectors) {
  const int64_t width = vectors * 16;
  std::vector<uint16_t> panel(static_cast<size_t>((k + 1) / 2 * width * 2));
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t i = 0; i < k; ++i) {
      std::memcpy(&panel[static_cast<size_t>((i / 2 * width + n) * 2 + i % 2)], w.bytes.data() + (n * k + i) * 2, 2);
    }
  }
  return panel;
}

/// c += x[rows from `row`] · w[columns]ᵀ + z · vᵀ over two chains, in blocks that begin at a row of their own.
void test_block(int64_t rows, int64_t columns, int vectors, int64_t k, int64_t rank, int64_t row) {
  const Buffer x = random_buffer(DType::bf16, kTileBlock * k), w = random_buffer(DType::bf16, columns * k);
  const Buffer z = random_buffer(DType::f32, kTileBlock * rank), v = random_buffer(DType::bf16, columns * rank);
  std::vector<char> left(static_cast<size_t>(scalar::tile_left_bytes(k))), left_z(static_cast<size_t>(scalar::tile_left_bytes(rank)));
  scalar::pack_tile_rows(left.data(), reinterpret_cast<const BFloat16*>(x.bytes.data()), k, 1, kTileBlock, k);
  scalar::pack_tile_rows(left_z.data(), reinterpret_cast<const float*>(z.bytes.data()), rank, 1, kTileBlock, rank);
  const std::vector<uint16_t> panel = panel_of(w, columns, k, vectors), panel_v = panel_of(v, columns, rank, vectors);
  scalar::LastStep last, last_v;
  const auto* right = reinterpret_cast<const char*>(panel.data());
  const auto* right_v = reinterpret_cast<const char*>(panel_v.data());
  const scalar::TileChain chains[2] = {
      {left.data() + row * scalar::kTileRowBytes, right, k, last.of(right, k, vectors * 64)},
      {left_z.data() + row * scalar::kTileRowBytes, right_v, rank, last_v.of(right_v, rank, vectors * 64)}};
  alignas(64) float c[kTileBlock * kTileBlock], apart[kTileBlock * kTileBlock];
  std::fill(c, c + kTileBlock * kTileBlock, 0.25f);
  std::copy(c, c + kTileBlock * kTileBlock, apart);
  {
    scalar::TileRegion<EmulatedTiles> region;
    scalar::tile_product(region, rows, columns, vectors, chains, 2, c, true);
    scalar::tile_product(region, rows, columns, vectors, chains, 1, apart, true);
    scalar::tile_product(region, rows, columns, vectors, chains + 1, 1, apart, true);
  }
  double worst = 0;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0.25, size = 0.25;
      for (int64_t e = 0; e < k + rank; ++e) {
        const double a = e < k
                             ? x.get((row + i) * k + e)
                             : static_cast<double>(bits_to_float(to_bf16(static_cast<float>(z.get((row + i) * rank + e - k))).bits << 16));
        const double product = a * (e < k ? w.get(j * k + e) : v.get(j * rank + e - k));
        sum += product;
        size += std::abs(product);
      }
      const float got = c[i * kTileBlock + j];
      worst = std::max(worst, std::abs(static_cast<double>(got) - sum) / (0x1p-22 * size));
      EXPECT(got == apart[i * kTileBlock + j], "chains in one go and apart");
    }
  }
  EXPECT(worst <= 1, "rows %d columns %d vectors %d k %d rank %d row %d: error %g of the bound", static_cast<int>(rows),
         static_cast<int>(columns), vectors, static_cast<int>(k), static_cast<int>(rank), static_cast<int>(row), worst);
  for (int64_t i = rows; i < kTileBlock; ++i) EXPECT(c[i * kTileBlock] == 0.25f, "rows past the block stay");
}

NATIVE_TEST(tiles_register_blocks) {
  for (int64_t rows : {1, 2, 15, 16, 17, 31, 32}) {
    for (int64_t k : {1, 2, 31, 32, 33, 64, 95, 200}) {
      for (int64_t rank : {1, 8, 32, 33}) {
        test_block(rows, 32, 2, k, rank, 0);
        test_block(rows, 7, 2, k, rank, kTileBlock - rows);
        test_block(rows, 16, 1, k, rank, (kTileBlock - rows) / 2);
      }
    }
  }
}

/// Groups of a panel over k contraction elements, by its definition in ops/int8-panels.h.
std::vector<char> int8_panel_of(const std::vector<int8_t>& w, int64_t outputs, int64_t k) {
  std::vector<char> panel(static_cast<size_t>(kTileBlock * 4 * (int8_groups(k) + (k + 3) / 4)));
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t i = 0; i < k; ++i) {
      const int64_t word = (i / kInt8Group + 1 + i / 4) * kTileBlock + n;
      panel[static_cast<size_t>(word * 4 + i % 4)] = static_cast<char>(w[static_cast<size_t>(n * k + i)]);
    }
  }
  return panel;
}

/// Sums of groups times scales, in two passes, against the same in plain integers and floats: bit for bit.
void test_int8_block(int64_t rows, int64_t outputs, int64_t k) {
  const int64_t groups = int8_groups(k), row_stride = (k + 63) / 64 * 64 + 64;
  // What lies past the contraction is not zero.
  std::vector<uint8_t> codes(static_cast<size_t>(rows * row_stride));
  for (uint8_t& code : codes) code = static_cast<uint8_t>(tests::generator());
  std::vector<int8_t> w(static_cast<size_t>(outputs * k));
  for (int8_t& code : w) code = static_cast<int8_t>(tests::generator());
  std::vector<float> scales(static_cast<size_t>(rows * groups));
  for (float& scale : scales) scale = static_cast<float>(tests::generator() % 1000) * 0.00137f;
  const std::vector<char> panel = int8_panel_of(w, outputs, k);
  const scalar::Int8Rows left{codes.data(), scales.data(), row_stride, groups};
  alignas(64) float tile[kTileBlock * kTileBlock];
  std::fill(tile, tile + kTileBlock * kTileBlock, -1.0f);
  scalar::LastStep last;
  {
    scalar::TileRegion<EmulatedTiles> region;
    scalar::int8_tile_product(region, rows, k, left, panel.data(), 0, groups / 2, last, tile);
    scalar::int8_tile_product(region, rows, k, left, panel.data(), groups / 2, groups, last, tile);
  }
  int wrong = 0;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < outputs; ++j) {
      float total = 0;
      for (int64_t group = 0; group < groups; ++group) {
        int32_t sum = 0;
        for (int64_t e = group * kInt8Group; e < std::min((group + 1) * kInt8Group, k); ++e) {
          sum += static_cast<int8_t>(codes[static_cast<size_t>(i * row_stride + e)]) * w[static_cast<size_t>(j * k + e)];
        }
        total = scalar::fma(static_cast<float>(sum), scales[static_cast<size_t>(i * groups + group)], total);
      }
      wrong += tile[i * kTileBlock + j] == total ? 0 : 1;
    }
  }
  EXPECT(wrong == 0, "rows %d outputs %d k %d: %d wrong", static_cast<int>(rows), static_cast<int>(outputs), static_cast<int>(k), wrong);
  for (int64_t i = rows; i < kTileBlock; ++i) EXPECT(tile[i * kTileBlock] == -1, "rows past the block stay");
}

NATIVE_TEST(tiles_int8_blocks) {
  for (int64_t rows : {1, 15, 16, 17, 32}) {
    for (int64_t k : {1, 4, 5, 63, 64, 65, 127, 128, 129, 200, 650}) {
      test_int8_block(rows, 32, k);
      test_int8_block(rows, 7, k);
    }
  }
}

}  // namespace
}  // namespace lorikeet
