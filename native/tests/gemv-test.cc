// Products of one to four rows at every level of this machine against the same rows in a block of many: bit for bit, every storage type,
// with bias and low-rank terms on some of the rows.

#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "core/error.h"
#include "core/level.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

std::mt19937 generator(23);

/// Zeroed memory as the kernels want it.
struct Block {
  char* data;
  explicit Block(int64_t bytes) : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 * 64 + 64)))) {
    std::memset(data, 0, static_cast<size_t>(bytes));
  }
  ~Block() { std::free(data); }
  Block(const Block&) = delete;
};

void fill(Block& block, DType dtype, int64_t count) {
  std::normal_distribution<double> normal;
  LORIKEET_FLOAT_SWITCH(
      dtype, T,
      for (int64_t i = 0; i < count; ++i) { store(reinterpret_cast<T*>(block.data) + i, static_cast<compute_t<T>>(normal(generator))); });
}

constexpr int64_t kRows = 14;

struct Sizes {
  int64_t n, k, rank;
};

void test_rows(Level level, DType x_dtype, DType w_dtype, Sizes sizes) {
  const auto [n, k, rank] = sizes;
  const DType wide = x_dtype == DType::f64 ? DType::f64 : DType::f32;
  const Panel panel = panel_for(w_dtype);
  const Arithmetic arithmetic = arithmetic_for(level, x_dtype, panel);
  const Panel extra = panel_for(arithmetic);
  Block x(kRows * k * size_of(x_dtype)), w(n * k * size_of(w_dtype)), a(rank * k * size_of(wide)), b(n * rank * size_of(wide));
  Block bias(n * size_of(x_dtype)), own_bias(n * size_of(wide)), y(kRows * n * size_of(x_dtype)), z(kRows * rank * size_of(wide));
  fill(x, x_dtype, kRows * k);
  fill(w, w_dtype, n * k);
  fill(a, wide, rank * k);
  fill(b, wide, n * rank);
  fill(bias, x_dtype, n);
  fill(own_bias, wide, n);
  Block panels(panel_bytes(level, panel, n, k, 2)), shrink(panel_bytes(level, extra, rank, k, 1)),
      expand(panel_bytes(level, extra, n, rank, 2));
  gemm_pack_kernel.at_level(level)({w.data, w_dtype, n, k, k, 1, 1.0, panel, 2, panels.data});
  gemm_pack_kernel.at_level(level)({a.data, wide, rank, k, k, 1, 1.0, extra, 1, shrink.data});
  gemm_pack_kernel.at_level(level)({b.data, wide, n, rank, rank, 1, 0.5, extra, 2, expand.data});
  // Two terms with the same factors; the second has a bias and meets every row, the first all but each third.
  const LowRankTerm terms[2] = {{rank, shrink.data, 0, expand.data, z.data, rank, 0.7, nullptr, {}, false, false, 1.0},
                                {rank, shrink.data, 0, expand.data, z.data, rank, 1.3, own_bias.data, {}, false, false, 1.0}};
  const auto rows_of = [&](int64_t first, int64_t count) {
    std::vector<LowRankRows> rows;
    for (int64_t i = 0; i < count; ++i) {
      if ((first + i) % 3 != 0) rows.push_back({i, i + 1, i, 0});
    }
    rows.push_back({0, count, 0, 1});
    return rows;
  };
  const auto product = [&](int64_t first, int64_t count, char* out, bool transposed) {
    const std::vector<LowRankRows> rows = rows_of(first, count);
    const int64_t offset = transposed ? first : first * k;
    gemm_kernel.at_level(level)({x.data + offset * size_of(x_dtype),
                                 x_dtype,
                                 transposed ? 1 : k,
                                 transposed ? kRows : 1,
                                 out,
                                 x_dtype,
                                 n,
                                 count,
                                 k,
                                 n,
                                 arithmetic,
                                 {panel, panels.data},
                                 bias.data,
                                 x_dtype,
                                 terms,
                                 2,
                                 rows.data(),
                                 static_cast<int64_t>(rows.size())});
  };
  const auto row_bytes = static_cast<size_t>(n * size_of(x_dtype));
  for (bool transposed : {false, true}) {
    product(0, kRows, y.data, transposed);
    for (int64_t count = 1; count <= 4; ++count) {
      for (int64_t first = 0; first + count <= kRows; first += count) {
        Block few(count * n * size_of(x_dtype));
        product(first, count, few.data, transposed);
        const bool same =
            std::memcmp(few.data, y.data + static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes) == 0;
        EXPECT(same, "%s x %s w %s n=%d k=%d: %d rows from %d on%s", name_of(level), name_of(x_dtype), name_of(w_dtype),
               static_cast<int>(n), static_cast<int>(k), static_cast<int>(count), static_cast<int>(first),
               transposed ? ", transposed" : "");
      }
    }
  }
}

NATIVE_TEST(few_rows_have_the_bits_of_many) {
  const DType types[][2] = {{DType::f64, DType::f64},   {DType::f32, DType::f32},  {DType::f32, DType::bf16}, {DType::f32, DType::f16},
                            {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f16, DType::bf16}};
  const int threads = thread_count();
  for (int count : {1, 2}) {
    set_thread_count(count);
    for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
      for (const auto& pair : types) {
        for (Sizes sizes : {Sizes{1, 1, 1}, {33, 31, 3}, {300, 257, 70}, {64, 2, 16}})
          test_rows(static_cast<Level>(level), pair[0], pair[1], sizes);
      }
    }
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace lorikeet
