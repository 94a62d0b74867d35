// Products with a weight that is kept row-major against those with its panels at every level of this machine: bit for bit, both directions,
// every storage type, few rows and many, with low-rank terms; rows that begin at any element.

#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/gemm.h"
#include "tests/buffers.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

using tests::Buffer;
using tests::Panels;
using tests::random_buffer;

struct Types {
  DType x, w;
};

/// W [rows, columns] whose values begin `shift` elements into their memory, and both directions of its products.
struct Weight {
  Level level;
  Types types;
  int64_t rows, columns, shift;
  Buffer values;

  Weight(Level at, Types pair, int64_t outputs, int64_t inputs, int64_t place)
      : level(at), types(pair), rows(outputs), columns(inputs), shift(place), values(random_buffer(pair.w, outputs * inputs + place)) {}

  void test(int64_t m, bool turned) {
    const int64_t k = turned ? rows : columns, n = turned ? columns : rows, rank = 3;
    const DType wide = types.x == DType::f64 ? DType::f64 : DType::f32;
    const Panel panel = panel_for(types.w);
    const Arithmetic arithmetic = arithmetic_for(level, types.x, panel);
    const Panel extra = panel_for(arithmetic);
    const char* w = values.bytes.data() + shift * size_of(types.w);
    Panels dense(panel_bytes(level, panel, n, k, 2)), shrink(panel_bytes(level, extra, rank, k, 1)),
        expand(panel_bytes(level, extra, n, rank, 2));
    gemm_pack_kernel.at_level(level)({w, types.w, n, k, turned ? 1 : k, turned ? n : 1, 1.0, panel, 2, dense.data});
    Buffer x = random_buffer(types.x, m * k), a = random_buffer(wide, rank * k), b = random_buffer(wide, n * rank);
    gemm_pack_kernel.at_level(level)({a.data(), wide, rank, k, k, 1, 1.0, extra, 1, shrink.data});
    gemm_pack_kernel.at_level(level)({b.data(), wide, n, rank, rank, 1, 1.0, extra, 2, expand.data});
    Buffer z(wide, m * rank), expected(types.x, m * n), got(types.x, m * n);
    const LowRankTerm term{rank, shrink.data, 0, expand.data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
    const LowRankRows part{0, m - 1, 0, 0};
    GemmArgs args{};
    args.x = x.data();
    args.x_dtype = args.y_dtype = types.x;
    args.x_row_stride = k;
    args.x_column_stride = 1;
    args.y_row_stride = n;
    args.m = m;
    args.k = k;
    args.n = n;
    args.arithmetic = arithmetic;
    args.terms = &term;
    args.term_count = 1;
    args.rows = &part;
    args.row_count = m > 1 ? 1 : 0;
    args.right = {panel, dense.data};
    args.y = expected.data();
    gemm_kernel.at_level(level)(args);
    args.right = {panel};
    args.right.turned = turned;
    args.right.stored = {w, types.w, rows, columns};
    args.y = got.data();
    gemm_kernel.at_level(level)(args);
    EXPECT(expected.bytes == got.bytes, "%s x %s w %s m=%d [%d, %d]%s", name_of(level), name_of(types.x), name_of(types.w),
           static_cast<int>(m), static_cast<int>(rows), static_cast<int>(columns), turned ? " turned" : "");
  }
};

constexpr Types kTypes[] = {{DType::f64, DType::f64},   {DType::f32, DType::f32},  {DType::f32, DType::bf16}, {DType::f32, DType::f16},
                            {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f16, DType::bf16}};
constexpr int64_t kSizes[][2] = {{1, 1}, {33, 31}, {31, 33}, {64, 32}, {300, 130}, {7, 333}};
// A contraction whose panels are made pass by pass: more bytes than a task makes at once at every level.
constexpr int64_t kLong[] = {33007, 70};

NATIVE_TEST(rows_have_the_bits_of_panels) {
  const int threads = thread_count();
  for (int l = 0; l <= static_cast<int>(gemm_level()); ++l) {
    const auto level = static_cast<Level>(l);
    for (Types types : kTypes) {
      for (int count : {1, 2}) {
        set_thread_count(count);
        for (const auto& [rows, columns] : kSizes) {
          Weight weight(level, types, rows, columns, count);
          for (int64_t m : {1, 2, 3, 4, 5, 130}) {
            weight.test(m, false);
            weight.test(m, true);
          }
        }
      }
      Weight(level, types, kLong[0], kLong[1], 0).test(26, true);
    }
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace lorikeet
