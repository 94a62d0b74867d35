// The packed product at every level of this machine against double arithmetic: odd sizes, every storage type, low-rank terms on segments of
// rows, and the bits of a row alone against its bits in a block.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/level.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "tests/buffers.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

using namespace tests;  // NOLINT: buffers.h

void test_product(Level level, DType x_dtype, DType w_dtype, int64_t m, int64_t n, int64_t k, int64_t rank, bool biased) {
  const std::string label = concat(name_of(level), " x ", name_of(x_dtype), " w ", name_of(w_dtype), " m=", m, " n=", n, " k=", k,
                                   " rank=", rank, biased ? " biased" : "");
  const Panel panel = panel_for(w_dtype);
  const Arithmetic arithmetic = arithmetic_for(level, x_dtype, panel);
  Buffer x = random_buffer(x_dtype, m * k), w = random_buffer(w_dtype, n * k),
         bias = biased ? random_buffer(x_dtype, n) : Buffer(x_dtype, n);
  const DType wide = x_dtype == DType::f64 ? DType::f64 : DType::f32;
  Buffer a = random_buffer(wide, rank * k), b = random_buffer(wide, n * rank);
  Panels panels(panel_bytes(level, panel, n, k, 2));
  gemm_pack_kernel.at_level(level)({w.data(), w_dtype, n, k, k, 1, 1.0, panel, 2, panels.data});
  Buffer back(w_dtype, n * k);
  gemm_unpack_kernel.at_level(level)({panels.data, panel, n, k, back.data(), w_dtype});
  EXPECT(back.bytes == w.bytes, "%s: unpacked", label.c_str());

  const Panel extra = panel_for(arithmetic);
  const double scale = 0.5;
  Panels shrink(panel_bytes(level, extra, rank, k, 1)), expand(panel_bytes(level, extra, n, rank, 2));
  gemm_pack_kernel.at_level(level)({a.data(), wide, rank, k, k, 1, 1.0, extra, 1, shrink.data});
  gemm_pack_kernel.at_level(level)({b.data(), wide, n, rank, rank, 1, scale, extra, 2, expand.data});
  Buffer z(wide, m * rank), y(x_dtype, m * n);
  LowRankTerm term{rank, shrink.data, 0, expand.data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
  // The term meets two segments: rows [begin, middle) and [middle + 1, end).
  const int64_t begin = m / 5, middle = m / 2, end = m - m / 7;
  std::vector<LowRankRows> rows;
  int64_t z_rows = 0;
  auto add = [&](int64_t from, int64_t to) {
    if (to > from) {
      rows.push_back({from, to, z_rows, 0});
      z_rows += to - from;
    }
  };
  add(begin, middle);
  add(middle + 1, end);
  GemmArgs args{x.data(),
                x_dtype,
                k,
                1,
                y.data(),
                x_dtype,
                n,
                m,
                k,
                n,
                arithmetic,
                {panel, panels.data},
                biased ? bias.data() : nullptr,
                x_dtype,
                &term,
                1,
                rows.data(),
                static_cast<int64_t>(rows.size())};
  gemm_kernel.at_level(level)(args);

  const auto adapted = [=](int64_t i) { return (i >= begin && i < middle) || (i >= middle + 1 && i < end); };
  const double unit = arithmetic == Arithmetic::f64 ? 0x1p-53 : 0x1p-24;
  const double extra_unit = arithmetic == Arithmetic::bf16_pairs ? 0x1p-7 : 8 * unit;
  const auto length = static_cast<double>(k);
  double worst = 0;
  for (int64_t i = 0; i < m; ++i) {
    std::vector<double> s(static_cast<size_t>(rank));
    for (int64_t r = 0; r < rank; ++r) s[static_cast<size_t>(r)] = dot(x, i * k, a, r * k, k);
    const double x_norm = dot(x, i * k, x, i * k, k);
    for (int64_t j = 0; j < n; ++j) {
      const double base = dot(x, i * k, w, j * k, k), base_norm = std::sqrt(x_norm * dot(w, j * k, w, j * k, k));
      double delta = 0, delta_norm = 0;
      for (int64_t r = 0; adapted(i) && r < rank; ++r) {
        const double factor = scale * b.get(j * rank + r);
        delta += s[static_cast<size_t>(r)] * factor;
        delta_norm += std::abs(factor) * (std::abs(s[static_cast<size_t>(r)]) + std::sqrt(x_norm * dot(a, r * k, a, r * k, k)));
      }
      const double value = base + delta + bias.get(j);
      const double bound = 4 * unit * std::sqrt(length + 4) * (base_norm + std::abs(bias.get(j)) + std::abs(value)) +
                           4 * extra_unit * std::sqrt(length) * delta_norm + roundoff(x_dtype) * std::abs(value);
      worst = std::max(worst, std::abs(y.get(i * n + j) - value) / (bound + 1e-300));
    }
  }
  EXPECT(worst <= 1, "%s: error %g of the bound", label.c_str(), worst);

  // Each row alone has the bits it has among the others.
  for (int64_t i = 0; i < m; ++i) {
    Buffer alone(x_dtype, n), alone_z(wide, rank);
    LowRankTerm alone_term = term;
    alone_term.z = alone_z.data();
    LowRankRows alone_rows{0, 1, 0, 0};
    GemmArgs one = args;
    one.x = x.bytes.data() + i * k * size_of(x_dtype);
    one.y = alone.data();
    one.m = 1;
    one.terms = &alone_term;
    one.rows = &alone_rows;
    one.row_count = adapted(i) ? 1 : 0;
    gemm_kernel.at_level(level)(one);
    const auto bytes = static_cast<size_t>(n * size_of(x_dtype));
    EXPECT(std::memcmp(alone.data(), y.bytes.data() + static_cast<size_t>(i) * bytes, bytes) == 0, "%s: row %d alone", label.c_str(),
           static_cast<int>(i));
  }
}

void test_rows(Level level, DType x_dtype, int64_t rows, int64_t columns, int64_t rank) {
  const DType wide = x_dtype == DType::f64 ? DType::f64 : DType::f32;
  Buffer x = random_buffer(x_dtype, rows * columns), p = random_buffer(wide, rows * rank);
  Buffer out(wide, rank * columns), turned(wide, rank * columns);
  const RowRange ranges[2] = {{0, 0, rows / 3}, {rows / 3 + 1, rows / 3, std::max<int64_t>(rows - rows / 3 - 1, 0)}};
  GemmRowsArgs args{x.data(), x_dtype, columns, columns, p.data(), rank, rank, ranges, rows > 0 ? 2 : 0, 2.0, {}, out.data(), false};
  gemm_rows_kernel.at_level(level)(args);
  args.out = turned.data();
  args.transposed = true;
  gemm_rows_kernel.at_level(level)(args);

  // The same rows one after the other, which are read where they lie, on two threads: the same chains.
  Buffer gathered(x_dtype, rows * columns), together(wide, rank * columns);
  const auto row_bytes = static_cast<size_t>(columns * size_of(x_dtype));
  for (const RowRange& range : ranges) {
    if (range.rows == 0) continue;
    std::memcpy(gathered.bytes.data() + static_cast<size_t>(range.p_row) * row_bytes,
                x.bytes.data() + static_cast<size_t>(range.x_row) * row_bytes, static_cast<size_t>(range.rows) * row_bytes);
  }
  const RowRange all{0, 0, std::max<int64_t>(rows - 1, 0)};
  const int threads = thread_count();
  set_thread_count(threads == 1 ? 2 : 1);
  args = {gathered.data(), x_dtype, columns, columns, p.data(), rank, rank, &all, 1, 2.0, {}, together.data(), false};
  gemm_rows_kernel.at_level(level)(args);
  set_thread_count(threads);
  EXPECT(together.bytes == out.bytes, "%s %s rank %d: rows in one range", name_of(level), name_of(x_dtype), static_cast<int>(rank));
  const bool pairs = x_dtype == DType::bf16 && has_pair_products(level);
  auto multiplied = [&](double value) {
    const BFloat16 rounded = to_bf16(static_cast<float>(value));
    return pairs ? static_cast<double>(load(&rounded)) : value;
  };
  double worst = 0;
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (const RowRange& range : ranges) {
        for (int64_t t = 0; t < range.rows; ++t) {
          sum += 2 * multiplied(p.get((range.p_row + t) * rank + r)) * x.get((range.x_row + t) * columns + c);
        }
      }
      worst = std::max(worst, std::abs(out.get(r * columns + c) - sum));
      EXPECT(out.get(r * columns + c) == turned.get(c * rank + r), "%s transposed", name_of(level));
    }
  }
  const double bound = (x_dtype == DType::f64 ? 1e-13 : 1e-4) * static_cast<double>(rows + 1);
  EXPECT(worst <= bound, "%s %s: error %g", name_of(level), name_of(x_dtype), worst);
}

const DType kPairs[][2] = {{DType::f64, DType::f64},   {DType::f32, DType::f32},  {DType::f32, DType::bf16}, {DType::f32, DType::f16},
                           {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f16, DType::f16},  {DType::f16, DType::bf16}};

// m, n, k, rank
const int64_t kSizes[][4] = {{1, 1, 1, 1},      {0, 5, 3, 2},      {2, 33, 31, 3},    {15, 47, 17, 8},   {16, 64, 32, 16},
                             {17, 65, 129, 33}, {31, 100, 50, 64}, {33, 31, 200, 16}, {130, 96, 300, 1}, {5, 3, 0, 2},
                             {13, 40, 1300, 5}, {3, 70, 2049, 2},  {70, 40, 700, 40}, {3, 9, 1300, 5},   {37, 70, 260, 256}};

NATIVE_TEST(gemm_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (const auto& types : kPairs) {
      for (const auto& size : kSizes) {
        for (bool biased : {false, true}) {
          test_product(static_cast<Level>(level), types[0], types[1], size[0], size[1], size[2], size[3], biased);
        }
      }
    }
  }
}

/// bf16 rows written from registers against the same with a bias of zero, which go through a tile: not a number, infinite, tiny.
NATIVE_TEST(gemm_rounds_special_values_alike) {
  const int64_t m = 13, n = 64, k = 6;
  Buffer x = random_buffer(DType::bf16, m * k), w = random_buffer(DType::bf16, n * k), zeros(DType::bf16, n);
  const double special[] = {NAN, -NAN, INFINITY, -INFINITY, 3e38, -3e38, 1e-20, -1e-20, 1e-38, 0};
  for (int64_t i = 0; i < 10; ++i) x.set(i * k + i % k, special[i]);
  for (int64_t i = 0; i < k; ++i) x.set(10 * k + i, 1e-20 * (i % 2 == 0 ? 1 : -1));
  for (int64_t i = 0; i < n * k; i += 7) w.set(i, 1e-20);
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    const auto at = static_cast<Level>(level);
    Panels panels(panel_bytes(at, Panel::bf16, n, k, 2));
    gemm_pack_kernel.at_level(at)({w.data(), DType::bf16, n, k, k, 1, 1.0, Panel::bf16, 2, panels.data});
    Buffer y(DType::bf16, m * n), through_tile(DType::bf16, m * n);
    GemmArgs args{x.data(),
                  DType::bf16,
                  k,
                  1,
                  y.data(),
                  DType::bf16,
                  n,
                  m,
                  k,
                  n,
                  arithmetic_for(at, DType::bf16, Panel::bf16),
                  {Panel::bf16, panels.data},
                  nullptr,
                  DType::bf16,
                  nullptr,
                  0,
                  nullptr,
                  0};
    gemm_kernel.at_level(at)(args);
    args.y = through_tile.data();
    args.bias = zeros.data();
    gemm_kernel.at_level(at)(args);
    EXPECT(y.bytes == through_tile.bytes, "%s", name_of(at));
  }
}

NATIVE_TEST(gemm_rows_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      test_rows(static_cast<Level>(level), dtype, 0, 5, 3);
      test_rows(static_cast<Level>(level), dtype, 1, 33, 1);
      test_rows(static_cast<Level>(level), dtype, 200, 300, 17);
      // A tail of less than a vector, of more than one; fewer columns than a vector; rows that fall into one cache set; many r.
      test_rows(static_cast<Level>(level), dtype, 275, 172, 16);
      test_rows(static_cast<Level>(level), dtype, 130, 93, 8);
      test_rows(static_cast<Level>(level), dtype, 70, 20, 24);
      test_rows(static_cast<Level>(level), dtype, 140, 2048, 5);
      test_rows(static_cast<Level>(level), dtype, 131, 40, 256);
    }
  }
}

}  // namespace
}  // namespace lorikeet
