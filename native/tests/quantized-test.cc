// Products with a quantised matrix at every level of this machine against the same products with dense panels of its values: bit for bit,
// both directions, every format, with low-rank terms.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "ops/quantize.h"
#include "ops/row-groups.h"
#include "tests/buffers.h"
#include "tests/harness.h"
#include "tests/quantized-weights.h"

namespace lorikeet {
namespace {

using namespace tests;

/// `nested`: nf4 with scales in 8 bits.
void make_scaled(Weight& w, Quantization format, int64_t rows, int64_t columns, bool nested) {
  const int64_t count = rows * columns, block = 64, blocks = (count + block - 1) / block;
  const bool is_int8 = format == Quantization::int8;
  w.codes.resize(static_cast<size_t>(is_int8 ? count : (count + 1) / 2));
  for (uint8_t& byte : w.codes) byte = static_cast<uint8_t>(block_generator());
  w.scales = random_floats(is_int8 ? rows : nested ? (blocks + kNestedBlock - 1) / kNestedBlock : blocks);
  w.scale_codes.resize(static_cast<size_t>(nested ? blocks : 0));
  for (uint8_t& code : w.scale_codes) code = static_cast<uint8_t>(block_generator());
  for (int64_t i = 0; i < count; ++i) {
    const auto at = [](const auto& list, int64_t place) { return list[static_cast<size_t>(place)]; };
    if (is_int8) {
      w.values.push_back(int8_value(static_cast<int8_t>(at(w.codes, i)), at(w.scales, i / columns)));
      continue;
    }
    const int64_t b = i / block;
    const float scale = nested ? kDynamicMap.values[at(w.scale_codes, b)] * at(w.scales, b / kNestedBlock) + w.offset : at(w.scales, b);
    w.values.push_back(kNf4Values[i % 2 == 0 ? at(w.codes, i / 2) >> 4 : at(w.codes, i / 2) & 15] * scale);
  }
  w.matrix = {format,
              rows,
              columns,
              w.codes.data(),
              is_int8 ? columns : 0,
              w.scales.data(),
              nested ? w.scale_codes.data() : nullptr,
              nested ? &w.offset : nullptr,
              block};
}

/// One bit a value, two values.
void make_signs(Weight& w, int64_t rows, int64_t columns) {
  const int64_t count = rows * columns;
  w.codes.resize(static_cast<size_t>((count + 7) / 8));
  for (uint8_t& byte : w.codes) byte = static_cast<uint8_t>(block_generator());
  w.scales = random_floats(2);
  for (int64_t i = 0; i < count; ++i) w.values.push_back(w.scales[w.codes[static_cast<size_t>(i / 8)] >> i % 8 & 1]);
  w.matrix = {Quantization::sign, rows, columns, w.codes.data(), columns % 8 == 0 ? columns / 8 : 0, w.scales.data(), nullptr, nullptr, 0};
}

/// y = x Wᵀ, or x W when `turned`, plus a low-rank term on all rows but the last: the quantised right operand against dense panels.
void test_direction(const Weight& w, const std::string& label, Level level, DType x_dtype, Panel panel, bool turned, int64_t m) {
  const int64_t k = turned ? w.matrix.rows : w.matrix.columns, n = turned ? w.matrix.columns : w.matrix.rows, rank = 3;
  const Arithmetic arithmetic = arithmetic_for(level, x_dtype, panel);
  const Panel extra = panel_for(arithmetic);
  Panels dense(panel_bytes(level, panel, n, k, 2));
  gemm_pack_kernel.at_level(level)({w.values.data(), DType::f32, n, k, turned ? 1 : k, turned ? n : 1, 1.0, panel, 2, dense.data});
  const std::vector<float> a = random_floats(rank * k), b = random_floats(n * rank), wide = random_floats(m * k);
  std::vector<BFloat16> narrow;
  for (float value : wide) narrow.push_back(to_bf16(value));
  Panels shrink(panel_bytes(level, extra, rank, k, 1)), expand(panel_bytes(level, extra, n, rank, 2));
  gemm_pack_kernel.at_level(level)({a.data(), DType::f32, rank, k, k, 1, 1.0, extra, 1, shrink.data});
  gemm_pack_kernel.at_level(level)({b.data(), DType::f32, n, rank, rank, 1, 1.0, extra, 2, expand.data});
  std::vector<float> z(static_cast<size_t>(m * rank)), expected(static_cast<size_t>(m * n)), got(static_cast<size_t>(m * n));
  LowRankTerm term{rank, shrink.data, 0, expand.data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
  LowRankRows rows{0, m - 1, 0, 0};
  GemmArgs args{};
  args.x = x_dtype == DType::bf16 ? static_cast<const void*>(narrow.data()) : wide.data();
  args.x_dtype = x_dtype;
  args.x_row_stride = k;
  args.x_column_stride = 1;
  args.y_dtype = DType::f32;
  args.y_row_stride = n;
  args.m = m;
  args.k = k;
  args.n = n;
  args.arithmetic = arithmetic;
  args.terms = &term;
  args.term_count = 1;
  args.rows = &rows;
  args.row_count = m > 1 ? 1 : 0;
  args.right = {panel, dense.data};
  args.y = expected.data();
  gemm_kernel.at_level(level)(args);
  args.right = {panel, nullptr, w.matrix, turned};
  args.y = got.data();
  gemm_kernel.at_level(level)(args);
  EXPECT(std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)) == 0, "%s %s x %s %s m=%d%s", name_of(level), label.c_str(),
         name_of(x_dtype), panel == Panel::bf16 ? "bf16" : "f32", static_cast<int>(m), turned ? " turned" : "");
}

void test_weight(const Weight& w, const std::string& label) {
  for (int l = 0; l <= static_cast<int>(gemm_level()); ++l) {
    const auto level = static_cast<Level>(l);
    std::vector<float> rows(w.values.size());
    dequantize_kernel.at_level(level)({w.matrix, nullptr, 0, w.matrix.rows, rows.data(), DType::f32});
    EXPECT(std::memcmp(rows.data(), w.values.data(), rows.size() * sizeof(float)) == 0, "%s %s: rows", name_of(level), label.c_str());
    for (int64_t first = 0; first < w.matrix.rows; first += 21) {
      const int64_t count = std::min<int64_t>(53, w.matrix.rows - first);
      std::vector<float> part(static_cast<size_t>(count * w.matrix.columns));
      dequantize_kernel.at_level(level)({w.matrix, nullptr, first, count, part.data(), DType::f32});
      EXPECT(std::memcmp(part.data(), w.values.data() + first * w.matrix.columns, part.size() * sizeof(float)) == 0,
             "%s %s: rows from %d on", name_of(level), label.c_str(), static_cast<int>(first));
    }
    for (int64_t m : {1, 2, 3, 4, 5, 130}) {
      for (bool turned : {false, true}) {
        test_direction(w, label, level, DType::f32, Panel::f32, turned, m);
        test_direction(w, label, level, DType::bf16, Panel::bf16, turned, m);
        test_direction(w, label, level, DType::f32, Panel::bf16, turned, m);
      }
    }
  }
}

NATIVE_TEST(quantized_products_have_the_bits_of_dense_ones) {
  const int threads = thread_count();
  for (int count : {1, 2}) {
    set_thread_count(count);
    for (int f = 0; f < static_cast<int>(Quantization::int8); ++f) {
      const auto format = static_cast<Quantization>(f);
      const int64_t block = gguf_block_type(kTypes[f])->block_size;
      for (int64_t rows : {1, 37, 300}) {
        Weight w;
        make_gguf(w, format, rows, block * (block == 32 ? 5 : 2));
        const std::string label = concat(name_of(format), " ", w.matrix.rows, "x", w.matrix.columns);
        test_weight(w, label);
        if (parts_of(format).words == 0 || rows < kRowGroup) continue;
        w.matrix.grouped_rows = rows / kRowGroup * kRowGroup;
        group_rows(format, w.matrix.grouped_rows, w.matrix.row_bytes, w.codes.data());
        test_weight(w, label + " in groups");
      }
    }
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {33, 17}, {40, 192}, {7, 333}, {65, 96}, {300, 130}}) {
      Weight int8, nf4, nested;
      make_scaled(int8, Quantization::int8, rows, columns, false);
      make_scaled(nf4, Quantization::nf4, rows, columns, false);
      make_scaled(nested, Quantization::nf4, rows, columns, true);
      test_weight(int8, concat("int8 ", rows, "x", columns));
      test_weight(nf4, concat("nf4 ", rows, "x", columns));
      test_weight(nested, concat("nf4 nested ", rows, "x", columns));
    }
  }
  for (auto [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 1}, {33, 17}, {40, 192}, {7, 333}, {65, 96}, {300, 130}, {97, 672}, {96, 8}}) {
    Weight signs;
    make_signs(signs, rows, columns);
    test_weight(signs, concat("sign ", rows, "x", columns));
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace lorikeet
