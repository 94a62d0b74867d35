// Products of 8-bit integers at every level of this machine. With values that are codes themselves every sum is an integer below 2^24, so
// results must equal integer arithmetic exactly, in both directions and with low-rank terms; with real values a row must not depend on the
// others.

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "ops/int8-panels.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

std::mt19937 generator(5);

int random_int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

struct Panels {
  char* data;
  explicit Panels(int64_t bytes) : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 * 64 + 64)))) {}
  ~Panels() { std::free(data); }
  Panels(const Panels&) = delete;
};

/// Rows of integers whose groups all hold a 127 or -127, so that their scale is 1 and the values are the codes.
std::vector<float> code_rows(int64_t rows, int64_t columns) {
  std::vector<float> x(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows * columns; ++i) {
    x[static_cast<size_t>(i)] =
        static_cast<float>(i % columns % kInt8Group == 0 ? (random_int(0, 1) == 0 ? -127 : 127) : random_int(-127, 127));
  }
  return x;
}

struct Product {
  Level level;
  bool turned;
  int64_t m, n, k;
  std::vector<int8_t> codes;  // [n, k], or [k, n] when turned
  std::vector<float> scales;  // of the rows of codes
  Panels panels;

  Product(Level at, bool backward, int64_t rows, int64_t outputs, int64_t inputs)
      : level(at),
        turned(backward),
        m(rows),
        n(outputs),
        k(inputs),
        codes(static_cast<size_t>(outputs * inputs)),
        scales(static_cast<size_t>(backward ? inputs : outputs), 127.0f),
        panels(int8_panel_bytes(at, outputs, inputs)) {
    for (int8_t& code : codes) code = static_cast<int8_t>(random_int(-128, 127));
    int8_pack_kernel.at_level(level)({codes.data(), n, k, turned ? 1 : k, turned ? n : 1, panels.data});
  }
  int at(int64_t output, int64_t input) const { return codes[static_cast<size_t>(turned ? input * n + output : output * k + input)]; }
  GemmArgs args(const float* x, float* y) const {
    GemmArgs args{};
    args.x = x;
    args.x_dtype = args.y_dtype = args.bias_dtype = DType::f32;
    args.x_row_stride = k;
    args.x_column_stride = 1;
    args.y = y;
    args.y_row_stride = n;
    args.m = m;
    args.k = k;
    args.n = n;
    args.arithmetic = Arithmetic::f32;
    args.right = {Panel::int8, panels.data, {}, turned, false, scales.data()};
    return args;
  }
};

void test_exact(const Product& p) {
  const std::string label = concat(name_of(p.level), p.turned ? " turned" : "", " m=", p.m, " n=", p.n, " k=", p.k);
  const std::vector<float> x = code_rows(p.m, p.k);
  // A picks one column of x a rank, B signs it: the low-rank steps are exact as well.
  const int64_t rank = 3, begin = p.m / 4;
  std::vector<float> a(static_cast<size_t>(rank * p.k)), b(static_cast<size_t>(p.n * rank)), z(static_cast<size_t>(p.m * rank));
  for (int64_t r = 0; r < rank; ++r) a[static_cast<size_t>(r * p.k + random_int(0, static_cast<int>(p.k) - 1))] = 1;
  for (float& value : b) value = static_cast<float>(random_int(-1, 1));
  Panels shrink(panel_bytes(p.level, Panel::f32, rank, p.k, 1)), expand(panel_bytes(p.level, Panel::f32, p.n, rank, 2));
  gemm_pack_kernel.at_level(p.level)({a.data(), DType::f32, rank, p.k, p.k, 1, 1.0, Panel::f32, 1, shrink.data});
  gemm_pack_kernel.at_level(p.level)({b.data(), DType::f32, p.n, rank, rank, 1, 1.0, Panel::f32, 2, expand.data});
  const LowRankTerm term{rank, shrink.data, 0, expand.data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
  const LowRankRows rows{begin, p.m, 0, 0};
  std::vector<float> bias(static_cast<size_t>(p.n)), y(static_cast<size_t>(p.m * p.n));
  for (float& value : bias) value = static_cast<float>(random_int(-9, 9));
  GemmArgs args = p.args(x.data(), y.data());
  args.bias = bias.data();
  args.terms = &term;
  args.term_count = 1;
  args.rows = &rows;
  args.row_count = 1;
  gemm_kernel.at_level(p.level)(args);
  int64_t wrong = 0;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      int64_t sum = static_cast<int64_t>(bias[static_cast<size_t>(j)]);
      for (int64_t t = 0; t < p.k; ++t) sum += static_cast<int64_t>(x[static_cast<size_t>(i * p.k + t)]) * p.at(j, t);
      for (int64_t r = 0; i >= begin && r < rank; ++r) {
        for (int64_t t = 0; t < p.k; ++t) {
          sum += static_cast<int64_t>(x[static_cast<size_t>(i * p.k + t)] * a[static_cast<size_t>(r * p.k + t)] *
                                      b[static_cast<size_t>(j * rank + r)]);
        }
      }
      wrong += y[static_cast<size_t>(i * p.n + j)] == static_cast<float>(sum) ? 0 : 1;
    }
  }
  EXPECT(wrong == 0, "%s: %d wrong", label.c_str(), static_cast<int>(wrong));
}

/// Codes are round(127 x / largest of the group), ties to even; each row alone has the bits it has among the others.
void test_rows_alone(const Product& p) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(p.m * p.k)), y(static_cast<size_t>(p.m * p.n)), alone(static_cast<size_t>(p.n));
  for (float& value : x) value = normal(generator);
  gemm_kernel.at_level(p.level)(p.args(x.data(), y.data()));
  double worst = 0;
  for (int64_t i = 0; i < p.m; ++i) {
    GemmArgs one = p.args(x.data() + i * p.k, alone.data());
    one.m = 1;
    gemm_kernel.at_level(p.level)(one);
    EXPECT(std::memcmp(alone.data(), y.data() + i * p.n, alone.size() * sizeof(float)) == 0, "%s: row %d alone", name_of(p.level),
           static_cast<int>(i));
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = 0, size = 0;
      for (int64_t first = 0; first < p.k; first += kInt8Group) {
        const int64_t end = std::min(first + kInt8Group, p.k);
        float largest = 0;
        for (int64_t t = first; t < end; ++t) largest = std::max(largest, std::abs(x[static_cast<size_t>(i * p.k + t)]));
        for (int64_t t = first; t < end; ++t) {
          const double code = std::nearbyint(x[static_cast<size_t>(i * p.k + t)] * (127.0f / largest));
          const double part = code * (largest / 127.0f) * p.at(j, t);
          sum += part;
          size += std::abs(part);
        }
      }
      worst = std::max(worst, std::abs(y[static_cast<size_t>(i * p.n + j)] - sum) / (size + 1e-30));
    }
  }
  EXPECT(worst < 1e-5, "%s: error %g", name_of(p.level), worst);
}

// m, n, k
const int64_t kSizes[][3] = {{1, 1, 1}, {2, 33, 3}, {5, 31, 128}, {13, 64, 129}, {17, 65, 260}, {40, 100, 600}};

NATIVE_TEST(int8_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (const auto& [m, n, k] : kSizes) {
      for (bool turned : {false, true}) {
        const Product product(static_cast<Level>(level), turned, m, n, k);
        test_exact(product);
        test_rows_alone(product);
        std::vector<int8_t> back(product.codes.size());
        if (turned) continue;
        int8_unpack_kernel.at_level(product.level)({product.panels.data, n, k, back.data()});
        EXPECT(back == product.codes, "%s: unpacked", name_of(product.level));
      }
    }
  }
}

NATIVE_TEST(int8_rows_that_are_not_finite) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    const Product p(static_cast<Level>(level), false, 4, 5, 200);
    std::vector<float> x = code_rows(4, 200), y(20);
    x[3] = infinity;
    x[200 + 190] = nan;
    for (int i = 400; i < 600; ++i) x[static_cast<size_t>(i)] = 0;
    gemm_kernel.at_level(p.level)(p.args(x.data(), y.data()));
    for (int i = 0; i < 5; ++i) {
      EXPECT(std::isnan(y[static_cast<size_t>(i)]) && std::isnan(y[static_cast<size_t>(5 + i)]), "%s: NaN", name_of(p.level));
      EXPECT(y[static_cast<size_t>(10 + i)] == 0, "%s: zeros", name_of(p.level));
      EXPECT(std::isfinite(y[static_cast<size_t>(15 + i)]), "%s: others", name_of(p.level));
    }
  }
}

/// All that a product can have, at one level: two terms, one with dropout on x and one on its output, on rows of their own, a bias.
std::vector<char> whole_product(const Product& p, DType dtype, bool transposed) {
  const int64_t rank = 5, size = size_of(dtype), cut = p.m / 3;
  const Panel extra = panel_for(arithmetic_for(p.level, dtype, Panel::int8));
  generator.seed(17);
  std::normal_distribution<float> normal;
  const auto values = [&](int64_t count, DType type) {
    std::vector<char> bytes(static_cast<size_t>(count * size_of(type)));
    LORIKEET_FLOAT_SWITCH(type, T,
                          for (int64_t i = 0; i < count; ++i)
                              store(reinterpret_cast<T*>(bytes.data()) + i, static_cast<compute_t<T>>(normal(generator))));
    return bytes;
  };
  const std::vector<char> x = values(p.m * p.k, dtype), bias = values(p.n, dtype), own_bias = values(p.n, DType::f32);
  const std::vector<char> a = values(rank * p.k, DType::f32), b = values(p.n * rank, DType::f32);
  Panels shrink(panel_bytes(p.level, extra, rank, p.k, 1)), expand(panel_bytes(p.level, extra, p.n, rank, 2));
  gemm_pack_kernel.at_level(p.level)({a.data(), DType::f32, rank, p.k, p.k, 1, 1.0, extra, 1, shrink.data});
  gemm_pack_kernel.at_level(p.level)({b.data(), DType::f32, p.n, rank, rank, 1, 1.0, extra, 2, expand.data});
  std::vector<float> z(static_cast<size_t>(2 * p.m * rank));
  const DropoutMask mask{0.4, 9, 2};
  const LowRankTerm terms[] = {
      {rank, shrink.data, 0, expand.data, z.data(), rank, 0.3, own_bias.data(), mask, true, false, 1.0},
      {rank, shrink.data, 0, expand.data, z.data() + p.m * rank, rank, 0.7, nullptr, mask, false, true, 1.7},
  };
  const LowRankRows rows[] = {{0, cut, 0, 0}, {cut, p.m, cut, 0}, {cut / 2, p.m, 0, 1}};
  std::vector<char> y(static_cast<size_t>(p.m * p.n * size));
  GemmArgs args = p.args(nullptr, nullptr);
  args.x = x.data();
  args.y = y.data();
  args.x_dtype = args.y_dtype = args.bias_dtype = dtype;
  if (transposed) {
    args.x_row_stride = 1;
    args.x_column_stride = p.m;
  }
  args.arithmetic = arithmetic_for(p.level, dtype, Panel::int8);
  args.bias = bias.data();
  args.terms = terms;
  args.term_count = 2;
  args.rows = rows;
  args.row_count = 3;
  gemm_kernel.at_level(p.level)(args);
  const auto* bytes = reinterpret_cast<const char*>(z.data());
  y.insert(y.end(), bytes, bytes + z.size() * sizeof(float));
  return y;
}

#if !defined(__aarch64__)
NATIVE_TEST(int8_tiles_have_the_bits_of_vectors) {
  if (gemm_level() < Level::amx_bf16) return;
  const int threads = thread_count();
  // More rows than one block, more groups than one pass, more panels than one task.
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {12, 33, 64}, {33, 20, 130}, {100, 70, 1000}, {70, 600, 900}}) {
    for (bool turned : {false, true}) {
      generator.seed(3);
      const Product below(Level::avx512_bf16, turned, m, n, k);
      generator.seed(3);
      const Product tiles(Level::amx_bf16, turned, m, n, k);
      for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (bool transposed : {false, true}) {
          const std::vector<char> expected = whole_product(below, dtype, transposed);
          for (int count : {1, 2}) {
            set_thread_count(count);
            EXPECT(whole_product(tiles, dtype, transposed) == expected, "%s m=%d n=%d k=%d%s%s", name_of(dtype), static_cast<int>(m),
                   static_cast<int>(n), static_cast<int>(k), turned ? " turned" : "", transposed ? " transposed" : "");
          }
        }
      }
    }
  }
  set_thread_count(threads);
}
#endif

}  // namespace
}  // namespace lorikeet
