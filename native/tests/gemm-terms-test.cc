// Several low-rank terms on the same rows, with dropout of their inputs and outputs and with biases, at every level of this machine:
// against double arithmetic, for one and two threads, each row alone, x of any strides, and without a base product.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "ops/gemm.h"
#include "tests/buffers.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

using tests::Buffer;
using tests::dot;
using tests::Panels;
using tests::random_buffer;

bool kept(const DropoutMask& mask, int64_t index) {
  const auto i = static_cast<uint64_t>(index);
  return uniform_from(Philox(mask.seed, mask.stream, i / 4).word[i % 4]) >= static_cast<float>(mask.p);
}

/// A term with its factors in `wide` and in panels.
struct Term {
  Buffer a, b, bias, z;
  Panels shrink, expand;
  LowRankTerm term;

  Term(Level level, DType wide, Panel panel, int64_t m, int64_t n, int64_t k, int64_t rank)
      : a(random_buffer(wide, rank * k)),
        b(random_buffer(wide, n * rank)),
        bias(random_buffer(wide, n)),
        z(wide, m * rank),
        shrink(panel_bytes(level, panel, rank, k, 1)),
        expand(panel_bytes(level, panel, n, rank, 2)) {
    gemm_pack_kernel.at_level(level)({a.data(), wide, rank, k, k, 1, 1.0, panel, 1, shrink.data});
    gemm_pack_kernel.at_level(level)({b.data(), wide, n, rank, rank, 1, 1.0, panel, 2, expand.data});
    term = {rank, shrink.data, 0, expand.data, z.data(), rank, 0.5, nullptr, {}, false, false, 1.0};
  }
};

struct Problem {
  Level level;
  DType dtype;
  int64_t m, n, k;
  bool transposed;  // x lies column by column
  bool based;       // there is a weight
  Arithmetic arithmetic = arithmetic_for(level, dtype, panel_for(dtype));
  DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  Panel panel = panel_for(dtype), extra = panel_for(arithmetic);
  Buffer x = random_buffer(dtype, m*k), w = random_buffer(dtype, n*k);
  Panels panels{panel_bytes(level, panel, n, k, 2)};
  Term dropped_input{level, wide, extra, m, n, k, 5}, biased{level, wide, extra, m, n, k, 40},
      dropped_output{level, wide, extra, m, n, k, 16};
  std::vector<LowRankTerm> terms{};
  std::vector<LowRankRows> rows{};

  void prepare() {
    gemm_pack_kernel.at_level(level)({w.data(), dtype, n, k, k, 1, 1.0, panel, 2, panels.data});
    dropped_input.term.mask = {0.3, 5, 1};
    dropped_input.term.mask_input = true;
    biased.term.bias = biased.bias.data();
    dropped_output.term.mask = {0.4, 5, 2};
    dropped_output.term.mask_output = true;
    dropped_output.term.output_scale = 1 / 0.6;
    dropped_output.term.bias = dropped_output.bias.data();
    terms = {dropped_input.term, biased.term, dropped_output.term};
    rows = {{0, m, 0, 1}, {m / 3, m, 0, 0}, {0, m / 2, 0, 2}};
    if (transposed) rows = {{0, m, 0, 2}, {m / 4, m, 0, 0}, {m / 2, m, 0, 1}};
  }

  GemmArgs args(void* y) {
    GemmArgs result{};
    result.x = x.data();
    result.x_dtype = result.y_dtype = result.bias_dtype = dtype;
    result.x_row_stride = transposed ? 1 : k;
    result.x_column_stride = transposed ? m : 1;
    result.y = y;
    result.y_row_stride = n;
    result.m = m;
    result.k = k;
    result.n = n;
    result.arithmetic = arithmetic;
    result.right.panel = panel;
    if (based) result.right.panels = panels.data;
    result.terms = terms.data();
    result.term_count = static_cast<int64_t>(terms.size());
    result.rows = rows.data();
    result.row_count = static_cast<int64_t>(rows.size());
    return result;
  }

  /// The terms of row i, as rows of a product that has no other.
  std::vector<LowRankRows> rows_of(int64_t i) const {
    std::vector<LowRankRows> own;
    for (const LowRankRows& part : rows) {
      if (i >= part.row_begin && i < part.row_end) own.push_back({0, 1, part.z_row + i - part.row_begin, part.term});
    }
    return own;
  }

  double x_at(int64_t i, int64_t c) const { return x.get(transposed ? c * m + i : i * k + c); }

  /// What `term` adds to row i (row z_row of its z), and the sum of the magnitudes that rounding acts on.
  void add_term(const Term& one, int64_t i, int64_t z_row, std::vector<double>& y, std::vector<double>& magnitude) const {
    const LowRankTerm& term = one.term;
    for (int64_t r = 0; r < term.rank; ++r) {
      double z = 0, size = 0;
      for (int64_t c = 0; c < k; ++c) {
        if (term.mask_input && !kept(term.mask, z_row * k + c)) continue;
        z += term.shrink_scale * x_at(i, c) * one.a.get(r * k + c);
        size += std::abs(term.shrink_scale * x_at(i, c) * one.a.get(r * k + c));
      }
      for (int64_t j = 0; j < n; ++j) {
        if (term.mask_output && !kept(term.mask, z_row * n + j)) continue;
        y[static_cast<size_t>(j)] += term.output_scale * z * one.b.get(j * term.rank + r);
        magnitude[static_cast<size_t>(j)] += std::abs(term.output_scale * size * one.b.get(j * term.rank + r));
      }
    }
    for (int64_t j = 0; term.bias != nullptr && j < n; ++j) y[static_cast<size_t>(j)] += one.bias.get(j);
  }

  std::string label() const {
    return concat(name_of(level), " ", name_of(dtype), " m=", m, " n=", n, " k=", k, transposed ? " transposed" : "",
                  based ? "" : " no base");
  }
};

void test_values(Problem& p, const Buffer& y) {
  const double unit = p.dtype == DType::f64 ? 0x1p-50 : p.arithmetic == Arithmetic::bf16_pairs ? 0x1p-7 : 0x1p-20;
  const double store = p.dtype == DType::f32 || p.dtype == DType::f64 ? unit : 0x1p-8;
  const double base_weight = p.arithmetic == Arithmetic::bf16_pairs ? 0x1p-10 : 1;  // no operand of the base product is rounded to bf16
  const Term* factors[] = {&p.dropped_input, &p.biased, &p.dropped_output};
  double worst = 0;
  for (int64_t i = 0; i < p.m; ++i) {
    std::vector<double> expected(static_cast<size_t>(p.n)), magnitude(static_cast<size_t>(p.n));
    for (int64_t j = 0; p.based && j < p.n; ++j) {
      for (int64_t c = 0; c < p.k; ++c) {
        const double product = p.x_at(i, c) * p.w.get(j * p.k + c);
        expected[static_cast<size_t>(j)] += product;
        magnitude[static_cast<size_t>(j)] += std::abs(product) * base_weight;
      }
    }
    for (const LowRankRows& rows : p.rows_of(i)) p.add_term(*factors[rows.term], i, rows.z_row, expected, magnitude);
    for (int64_t j = 0; j < p.n; ++j) {
      const double value = expected[static_cast<size_t>(j)];
      const double bound = unit * magnitude[static_cast<size_t>(j)] + store * std::abs(value) + unit;
      worst = std::max(worst, std::abs(y.get(i * p.n + j) - value) / bound);
    }
  }
  EXPECT(worst <= 1, "%s: error %g of the bound", p.label().c_str(), worst);
}

void test_problem(Problem& p) {
  p.prepare();
  Buffer y(p.dtype, p.m * p.n), again(p.dtype, p.m * p.n);
  set_thread_count(1);
  gemm_kernel.at_level(p.level)(p.args(y.data()));
  const Buffer z = p.biased.z;
  set_thread_count(2);
  gemm_kernel.at_level(p.level)(p.args(again.data()));
  EXPECT(y.bytes == again.bytes && z.bytes == p.biased.z.bytes, "%s: two threads", p.label().c_str());
  test_values(p, y);
  GemmArgs only_z = p.args(nullptr);
  std::fill(p.biased.z.bytes.begin(), p.biased.z.bytes.end(), 0);
  gemm_kernel.at_level(p.level)(only_z);
  EXPECT(z.bytes == p.biased.z.bytes, "%s: z alone", p.label().c_str());

  const int64_t row_bytes = p.n * size_of(p.dtype);
  for (int64_t i = 0; i < p.m; ++i) {
    Buffer alone(p.dtype, p.n);
    GemmArgs one = p.args(alone.data());
    one.x = p.x.bytes.data() + i * one.x_row_stride * size_of(p.dtype);
    one.m = 1;
    const std::vector<LowRankRows> rows = p.rows_of(i);
    one.rows = rows.data();
    one.row_count = static_cast<int64_t>(rows.size());
    gemm_kernel.at_level(p.level)(one);
    EXPECT(std::memcmp(alone.data(), y.bytes.data() + i * row_bytes, static_cast<size_t>(row_bytes)) == 0, "%s: row %d alone",
           p.label().c_str(), static_cast<int>(i));
  }
}

NATIVE_TEST(gemm_terms_at_every_level) {
  const int threads = thread_count();
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      for (const auto& [m, n, k] : {std::array<int64_t, 3>{3, 5, 7}, {37, 70, 33}, {33, 40, 64}, {18, 33, 430}}) {
        for (int variant = 0; variant < 3; ++variant) {
          Problem problem{static_cast<Level>(level), dtype, m, n, k, variant == 1, variant != 2};
          test_problem(problem);
        }
      }
    }
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace lorikeet
