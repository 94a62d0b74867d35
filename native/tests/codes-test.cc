// Products of the codes of GGUF blocks with rows in 8 bits, at every level of this machine. With values that are codes themselves and whole
// scales every sum is an integer below 2^24, so results must equal integer arithmetic exactly; with real values they are near those of
// rows rounded the same way, and a row does not depend on the others.

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "ops/row-groups.h"
#include "tests/buffers.h"
#include "tests/harness.h"
#include "tests/quantized-weights.h"

namespace lorikeet {
namespace {

using namespace tests;

int random_int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(block_generator); }

GemmArgs product_of(const Weight& w, Level level, const float* x, int64_t m, float* y) {
  GemmArgs args{};
  args.x = x;
  args.x_dtype = args.y_dtype = args.bias_dtype = DType::f32;
  args.x_row_stride = args.k = w.matrix.columns;
  args.x_column_stride = 1;
  args.y = y;
  args.y_row_stride = args.n = w.matrix.rows;
  args.m = m;
  args.arithmetic = arithmetic_for(level, DType::f32, Panel::f32);
  args.right = {Panel::int8, nullptr, w.matrix};
  return args;
}

/// Small integers, and in every group a 127 or -127: the scale is 1.
std::vector<float> whole_rows(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    x[static_cast<size_t>(i)] = static_cast<float>(i % kQuantizedGroup == 5 ? (random_int(0, 1) == 0 ? -127 : 127) : random_int(-9, 9));
  }
  return x;
}

/// `w` has whole values. With a low-rank term on all rows but the first, and a bias.
void test_exact(const Weight& w, const std::string& label, Level level, int64_t m) {
  const int64_t k = w.matrix.columns, n = w.matrix.rows, rank = 3;
  const auto at = [](const std::vector<float>& list, int64_t place) { return static_cast<int64_t>(list[static_cast<size_t>(place)]); };
  const std::vector<float> x = whole_rows(m * k);
  std::vector<float> a(static_cast<size_t>(rank * k)), b(static_cast<size_t>(n * rank)), z(static_cast<size_t>(m * rank));
  for (int64_t r = 0; r < rank; ++r) a[static_cast<size_t>(r * k + random_int(0, static_cast<int>(k) - 1))] = 1;
  for (float& value : b) value = static_cast<float>(random_int(-1, 1));
  Panels shrink(panel_bytes(level, Panel::f32, rank, k, 1)), expand(panel_bytes(level, Panel::f32, n, rank, 2));
  gemm_pack_kernel.at_level(level)({a.data(), DType::f32, rank, k, k, 1, 1.0, Panel::f32, 1, shrink.data});
  gemm_pack_kernel.at_level(level)({b.data(), DType::f32, n, rank, rank, 1, 1.0, Panel::f32, 2, expand.data});
  const LowRankTerm term{rank, shrink.data, 0, expand.data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
  const LowRankRows rows{1, m, 0, 0};
  std::vector<float> bias(static_cast<size_t>(n)), y(static_cast<size_t>(m * n));
  for (float& value : bias) value = static_cast<float>(random_int(-9, 9));
  GemmArgs args = product_of(w, level, x.data(), m, y.data());
  args.bias = bias.data();
  args.terms = &term;
  args.term_count = 1;
  args.rows = &rows;
  args.row_count = m > 1 ? 1 : 0;
  gemm_kernel.at_level(level)(args);
  int wrong = 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int64_t sum = at(bias, j);
      for (int64_t t = 0; t < k; ++t) sum += at(x, i * k + t) * at(w.values, j * k + t);
      for (int64_t r = 0; i > 0 && r < rank; ++r) {
        for (int64_t t = 0; t < k; ++t) sum += at(x, i * k + t) * at(a, r * k + t) * at(b, j * rank + r);
      }
      wrong += at(y, i * n + j) == sum ? 0 : 1;
    }
  }
  EXPECT(wrong == 0, "%s %s m=%d: %d wrong", name_of(level), label.c_str(), static_cast<int>(m), wrong);
}

/// What a row of `x` is after rounding.
std::vector<double> rounded_row(const float* x, int64_t k) {
  std::vector<double> row;
  for (int64_t first = 0; first < k; first += kQuantizedGroup) {
    float largest = 0;
    for (int64_t t = 0; t < kQuantizedGroup; ++t) largest = std::max(largest, std::abs(x[first + t]));
    for (int64_t t = 0; t < kQuantizedGroup; ++t) {
      row.push_back(static_cast<double>(std::nearbyint(x[first + t] * (127.0f / largest))) * (largest / 127.0f));
    }
  }
  return row;
}

void test_rows(const Weight& w, const std::string& label, Level level, int64_t m) {
  const int64_t k = w.matrix.columns, n = w.matrix.rows;
  const std::vector<float> x = random_floats(m * k);
  std::vector<float> y(static_cast<size_t>(m * n)), alone(static_cast<size_t>(n));
  gemm_kernel.at_level(level)(product_of(w, level, x.data(), m, y.data()));
  double worst = 0;
  for (int64_t i = 0; i < m; ++i) {
    gemm_kernel.at_level(level)(product_of(w, level, x.data() + i * k, 1, alone.data()));
    EXPECT(std::memcmp(alone.data(), y.data() + i * n, alone.size() * sizeof(float)) == 0, "%s %s m=%d: row %d alone", name_of(level),
           label.c_str(), static_cast<int>(m), static_cast<int>(i));
    const std::vector<double> row = rounded_row(x.data() + i * k, k);
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 1e-30;
      for (int64_t t = 0; t < k; ++t) {
        const double part = row[static_cast<size_t>(t)] * w.values[static_cast<size_t>(j * k + t)];
        sum += part;
        size += std::abs(part);
      }
      worst = std::max(worst, std::abs(y[static_cast<size_t>(i * n + j)] - sum) / size);
    }
  }
  EXPECT(worst < 1e-5, "%s %s m=%d: error %g", name_of(level), label.c_str(), static_cast<int>(m), worst);
}

/// Scales and minima of one, whose products with the small integers of K-quants stay whole.
void make_whole(Weight& w, Quantization format) {
  const GgufBlockType& type = *gguf_block_type(kTypes[static_cast<int>(format)]);
  for (size_t at = 0; at < w.codes.size(); at += static_cast<size_t>(type.type_size)) {
    uint8_t* block = w.codes.data() + at;
    const bool scale_last = format == Quantization::q6_k;
    store_half(scale_last ? block + 208 : block, 1);
    const bool shifted =
        format == Quantization::q4_1 || format == Quantization::q5_1 || format == Quantization::q4_k || format == Quantization::q5_k;
    if (shifted) store_half(block + 2, 1);
  }
  gguf_dequantize(type, w.codes.data(), w.matrix.rows * w.matrix.columns, w.values.data());
}

NATIVE_TEST(codes_of_blocks_at_every_level) {
  const int threads = thread_count();
  for (int f = 0; f < static_cast<int>(Quantization::int8); ++f) {
    const auto format = static_cast<Quantization>(f);
    const int64_t block = gguf_block_type(kTypes[f])->block_size;
    for (int64_t rows : {1, 37, 160}) {
      for (bool whole : {true, false}) {
        for (bool grouped : {false, true}) {
          if (grouped && (parts_of(format).words == 0 || rows < kRowGroup)) continue;
          Weight w;
          make_gguf(w, format, rows, block * (block == 32 ? 13 : 2));
          if (whole) make_whole(w, format);
          if (grouped) {
            w.matrix.grouped_rows = rows / kRowGroup * kRowGroup;
            group_rows(format, w.matrix.grouped_rows, w.matrix.row_bytes, w.codes.data());
          }
          const std::string label = concat(name_of(format), grouped ? " in groups " : " ", rows, "x", w.matrix.columns);
          for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
            for (int64_t m : {1, 2, 3, 4, 5, 17}) {
              set_thread_count(m % 2 == 0 ? 1 : 2);
              if (whole) {
                test_exact(w, label, static_cast<Level>(level), m);
              } else {
                test_rows(w, label, static_cast<Level>(level), m);
              }
            }
          }
        }
      }
    }
  }
  set_thread_count(threads);
}

NATIVE_TEST(codes_do_not_depend_on_the_number_of_threads) {
  const int threads = thread_count();
  Weight w;
  make_gguf(w, Quantization::q4_1, 1600, 256);
  w.matrix.grouped_rows = 1600;
  group_rows(Quantization::q4_1, 1600, w.matrix.row_bytes, w.codes.data());
  for (int64_t m : {1, 3, 150}) {
    const std::vector<float> x = random_floats(m * 256);
    std::vector<float> y[2];
    for (int count : {1, 2}) {
      set_thread_count(count);
      y[count - 1].resize(static_cast<size_t>(m * 1600));
      gemm_kernel.at_level(gemm_level())(product_of(w, gemm_level(), x.data(), m, y[count - 1].data()));
    }
    EXPECT(y[0] == y[1], "m=%d", static_cast<int>(m));
  }
  set_thread_count(threads);
}

NATIVE_TEST(codes_with_rows_that_are_not_finite) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (Quantization format : {Quantization::q4_1, Quantization::q8_0, Quantization::q6_k}) {
    Weight w;
    make_gguf(w, format, 40, 256);
    for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
      std::vector<float> x = random_floats(4 * 256), y(160);
      x[3] = infinity;
      x[256 + 190] = nan;
      for (size_t i = 512; i < 768; ++i) x[i] = 0;
      gemm_kernel.at_level(static_cast<Level>(level))(product_of(w, static_cast<Level>(level), x.data(), 4, y.data()));
      for (size_t i = 0; i < 40; ++i) {
        EXPECT(std::isnan(y[i]) && std::isnan(y[40 + i]), "%s: NaN", name_of(format));
        EXPECT(y[80 + i] == 0, "%s: zeros", name_of(format));
        EXPECT(std::isfinite(y[120 + i]), "%s: others", name_of(format));
      }
    }
  }
}

}  // namespace
}  // namespace lorikeet
