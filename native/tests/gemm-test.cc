// The packed product at every level of this machine against double arithmetic: odd sizes, every storage type, low-rank terms on segments of
// rows, and the bits of a row alone against its bits in a block.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/level.h"
#include "ops/gemm.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

std::mt19937 generator(7);

/// A buffer of one storage type, read and written as double.
struct Buffer {
  DType dtype;
  std::vector<char> bytes;
  Buffer(DType type, int64_t count) : dtype(type), bytes(static_cast<size_t>(std::max<int64_t>(count, 1) * size_of(type))) {}
  void* data() { return bytes.data(); }
  double get(int64_t i) const {
    double value = 0;
    LORIKEET_FLOAT_SWITCH(dtype, T, value = static_cast<double>(load(reinterpret_cast<const T*>(bytes.data()) + i)));
    return value;
  }
  void set(int64_t i, double value) {
    LORIKEET_FLOAT_SWITCH(dtype, T, store(reinterpret_cast<T*>(bytes.data()) + i, static_cast<compute_t<T>>(value)));
  }
};

Buffer random_buffer(DType dtype, int64_t count) {
  Buffer buffer(dtype, count);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < count; ++i) buffer.set(i, normal(generator));
  return buffer;
}

struct Panels {
  char* data;
  explicit Panels(int64_t bytes) : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 * 64 + 64)))) {}
  ~Panels() { std::free(data); }
  Panels(const Panels&) = delete;
};

double dot(const Buffer& a, int64_t a_first, const Buffer& b, int64_t b_first, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += a.get(a_first + i) * b.get(b_first + i);
  return sum;
}

/// Half a unit in the last place of a storage type, relative.
double roundoff(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
}

void test_product(Level level, DType x_dtype, DType w_dtype, int64_t m, int64_t n, int64_t k, int64_t rank) {
  const std::string label =
      concat(name_of(level), " x ", name_of(x_dtype), " w ", name_of(w_dtype), " m=", m, " n=", n, " k=", k, " rank=", rank);
  const Panel panel = panel_for(w_dtype);
  const Arithmetic arithmetic = arithmetic_for(level, x_dtype, panel);
  Buffer x = random_buffer(x_dtype, m * k), w = random_buffer(w_dtype, n * k), bias = random_buffer(x_dtype, n);
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
  LowRankTerm term{rank, shrink.data, expand.data, z.data(), 1.0, nullptr, {}, false, false, 1.0};
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
  GemmArgs args{x.data(),    x_dtype, k,     1, y.data(),    x_dtype,
                n,           m,       k,     n, arithmetic,  {panel, panels.data},
                bias.data(), x_dtype, &term, 1, rows.data(), static_cast<int64_t>(rows.size())};
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
  double worst = 0;
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (const RowRange& range : ranges) {
        for (int64_t t = 0; t < range.rows; ++t) sum += 2 * p.get((range.p_row + t) * rank + r) * x.get((range.x_row + t) * columns + c);
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
const int64_t kSizes[][4] = {{1, 1, 1, 1},      {0, 5, 3, 2},       {2, 33, 31, 3},    {15, 47, 17, 8},
                             {16, 64, 32, 16},  {17, 65, 129, 33},  {31, 100, 50, 64}, {33, 31, 200, 16},
                             {130, 96, 300, 1}, {37, 70, 260, 256}, {5, 3, 0, 2}};

NATIVE_TEST(gemm_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (const auto& types : kPairs) {
      for (const auto& size : kSizes) test_product(static_cast<Level>(level), types[0], types[1], size[0], size[1], size[2], size[3]);
    }
  }
}

NATIVE_TEST(gemm_rows_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      test_rows(static_cast<Level>(level), dtype, 0, 5, 3);
      test_rows(static_cast<Level>(level), dtype, 1, 33, 1);
      test_rows(static_cast<Level>(level), dtype, 200, 300, 17);
    }
  }
}

}  // namespace
}  // namespace lorikeet
