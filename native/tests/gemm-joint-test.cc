// Products as one job at every level of this machine: of one x, with the bits of each alone; summed, with the bits of each alone and added
// one after the other, on any number of threads, for each row alone, and from panels made on the fly.

#include <algorithm>
#include <memory>
#include <vector>

#include "core/parallel.h"
#include "ops/gemm.h"
#include "tests/buffers.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

using tests::Buffer;
using tests::Panels;
using tests::random_buffer;

constexpr int64_t kRanks[] = {8, 3, 16};

struct Numbers {
  Level level;
  DType dtype;
  DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  Panel panel = panel_for(dtype);
  Arithmetic arithmetic = arithmetic_for(level, dtype, panel);
  Panel extra = panel_for(arithmetic);

  /// Panels of source [outputs, contraction] in `type`; `turned`: of a source [contraction, outputs].
  std::unique_ptr<Panels> pack(Buffer& source, Panel kind, int64_t outputs, int64_t contraction, bool turned, int vectors) const {
    auto panels = std::make_unique<Panels>(panel_bytes(level, kind, outputs, contraction, vectors));
    gemm_pack_kernel.at_level(level)({source.data(), source.dtype, outputs, contraction, turned ? 1 : contraction, turned ? outputs : 1,
                                      1.0, kind, vectors, panels->data});
    return panels;
  }
};

/// One of the products: x [m, k], W [n, k], and a term where `rank` is not 0.
struct Part {
  Buffer x, w, a, b, z, y;
  std::unique_ptr<Panels> panels, turned, shrink, expand;
  LowRankTerm term{};
  LowRankRows rows{};
  GemmArgs args{};

  Part(const Numbers& numbers, int64_t m, int64_t n, int64_t k, int64_t rank)
      : x(random_buffer(numbers.dtype, m * k)),
        w(random_buffer(numbers.dtype, n * k)),
        a(random_buffer(numbers.wide, rank * k)),
        b(random_buffer(numbers.wide, n * rank)),
        z(numbers.wide, m * rank),
        y(numbers.dtype, m * n),
        panels(numbers.pack(w, numbers.panel, n, k, false, 2)),
        turned(numbers.pack(w, numbers.panel, k, n, true, 2)),
        shrink(numbers.pack(a, numbers.extra, rank, k, false, 1)),
        expand(numbers.pack(b, numbers.extra, n, rank, false, 2)) {
    term = {rank, shrink->data, 0, expand->data, z.data(), rank, 1.0, nullptr, {}, false, false, 1.0};
    rows = {m / 5, m, 0, 0};
    args.x = x.data();
    args.x_dtype = args.y_dtype = args.bias_dtype = numbers.dtype;
    args.x_row_stride = k;
    args.x_column_stride = 1;
    args.y = y.data();
    args.y_row_stride = n;
    args.m = m;
    args.k = k;
    args.n = n;
    args.arithmetic = numbers.arithmetic;
    args.right.panel = numbers.panel;
    args.right.panels = panels->data;
    point(rank > 0);
  }
  Part(const Part&) = delete;

  void point(bool has_term) {
    args.terms = &term;
    args.rows = &rows;
    args.term_count = args.row_count = has_term ? 1 : 0;
  }
};

using Parts = std::vector<std::unique_ptr<Part>>;

void run(Level level, const Parts& parts, bool summed, int threads) {
  std::vector<GemmArgs> products;
  for (const auto& part : parts) products.push_back(part->args);
  const int before = thread_count();
  set_thread_count(threads);
  gemm_joint_kernel.at_level(level)({products.data(), static_cast<int64_t>(products.size()), summed});
  set_thread_count(before);
}

/// Layers of 70, 33 and 5 outputs, one of them without a term, whose A lie in panels of their own and then in shared ones.
void test_one_x(const Numbers& numbers, int64_t m, int64_t k) {
  Parts parts;
  for (const auto& [n, rank] : {std::pair<int64_t, int64_t>{70, 8}, {33, 0}, {5, 11}}) {
    parts.push_back(std::make_unique<Part>(numbers, m, n, k, rank));
    parts.back()->args.x = parts[0]->x.data();
  }
  std::vector<std::vector<char>> y, z;
  for (const auto& part : parts) {
    gemm_kernel.at_level(numbers.level)(part->args);
    y.push_back(part->y.bytes);
    z.push_back(part->z.bytes);
  }
  Buffer stacked_a(numbers.wide, 19 * k), stacked_z(numbers.wide, m * 19);
  for (int64_t i = 0; i < 19 * k; ++i) stacked_a.set(i, i < 8 * k ? parts[0]->a.get(i) : parts[2]->a.get(i - 8 * k));
  const auto shared = numbers.pack(stacked_a, numbers.extra, 19, k, false, 1);
  for (bool stacked : {false, true}) {
    for (int threads : {1, 3}) {
      for (const auto& part : parts) std::fill(part->y.bytes.begin(), part->y.bytes.end(), char{77});
      for (size_t i = 0; stacked && i < 3; i += 2) {
        LowRankTerm& term = parts[i]->term;
        term.shrink = shared->data;
        term.shrink_column = i == 0 ? 0 : 8;
        term.z = static_cast<char*>(stacked_z.data()) + term.shrink_column * size_of(numbers.wide);
        term.z_row_stride = 19;
      }
      run(numbers.level, parts, false, threads);
      for (size_t i = 0; i < 3; ++i) {
        EXPECT(parts[i]->y.bytes == y[i], "%s %s m=%d k=%d layer %d, stacked %d, %d threads", name_of(numbers.level),
               name_of(numbers.dtype), static_cast<int>(m), static_cast<int>(k), static_cast<int>(i), stacked, threads);
      }
    }
  }
  const Part &first = *parts[0], &last = *parts[2];
  bool same = true;
  for (int64_t row = 0; row < m - m / 5; ++row) {
    for (int64_t r = 0; r < 8; ++r) same = same && stacked_z.get(row * 19 + r) == first.z.get(row * 8 + r);
    for (int64_t r = 0; r < 11; ++r) same = same && stacked_z.get(row * 19 + 8 + r) == last.z.get(row * 11 + r);
  }
  EXPECT(same, "%s %s: z in columns of one tensor", name_of(numbers.level), name_of(numbers.dtype));
  // Two of the layers alone: their columns of the shared panels are neither all nor the first.
  const std::unique_ptr<Part> owner_of_x = std::move(parts[0]);
  parts.erase(parts.begin());
  run(numbers.level, parts, false, 1);
  EXPECT(parts[1]->y.bytes == y[2], "%s %s: without the first of the stack", name_of(numbers.level), name_of(numbers.dtype));
}

void test_sum(const Numbers& numbers, int64_t m, int64_t n, const std::vector<int64_t>& depths) {
  Parts parts;
  for (size_t i = 0; i < depths.size(); ++i) parts.push_back(std::make_unique<Part>(numbers, m, n, depths[i], i == 1 ? 0 : kRanks[i]));
  Buffer sum(numbers.dtype, m * n);
  for (size_t i = 0; i < parts.size(); ++i) {
    gemm_kernel.at_level(numbers.level)(parts[i]->args);
    for (int64_t at = 0; at < m * n; ++at) sum.set(at, i == 0 ? parts[i]->y.get(at) : sum.get(at) + parts[i]->y.get(at));
  }
  const std::vector<char>& expected = sum.bytes;
  for (const auto& part : parts) part->args.y = parts[0]->y.data();
  Buffer& y = parts[0]->y;
  const auto check = [&](const char* what) {
    EXPECT(y.bytes == expected, "%s %s m=%d n=%d: %s", name_of(numbers.level), name_of(numbers.dtype), static_cast<int>(m),
           static_cast<int>(n), what);
    std::fill(y.bytes.begin(), y.bytes.end(), char{77});
  };
  for (int threads : {1, 3}) {
    run(numbers.level, parts, true, threads);
    check("products alone");
  }
  for (const auto& part : parts) {
    part->args.right.panels = part->turned->data;
    part->args.right.retile = true;
  }
  for (int threads : {1, 3}) {
    run(numbers.level, parts, true, threads);
    check("panels of the transposes");
  }
  parts[0]->args.right.panels = parts[0]->panels->data;
  parts[0]->args.right.retile = false;
  run(numbers.level, parts, true, 1);
  check("panels of some transposes");
  std::vector<char> rows;
  for (int64_t row = 0; row < m; ++row) {
    std::vector<GemmArgs> alone;
    std::vector<LowRankRows> own(parts.size(), {0, 1, 0, 0});
    for (size_t i = 0; i < parts.size(); ++i) {
      GemmArgs args = parts[i]->args;
      args.x = static_cast<const char*>(args.x) + row * args.k * size_of(numbers.dtype);
      args.m = 1;
      args.rows = &own[i];
      args.row_count = parts[i]->term.rank > 0 && row >= parts[i]->rows.row_begin ? 1 : 0;
      alone.push_back(args);
    }
    gemm_joint_kernel.at_level(numbers.level)({alone.data(), static_cast<int64_t>(alone.size()), true});
    rows.insert(rows.end(), y.bytes.begin(), y.bytes.begin() + n * size_of(numbers.dtype));
  }
  EXPECT(rows == expected, "%s %s m=%d n=%d: rows alone", name_of(numbers.level), name_of(numbers.dtype), static_cast<int>(m),
         static_cast<int>(n));
}

NATIVE_TEST(gemm_joint_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const Numbers numbers{static_cast<Level>(level), dtype};
      for (int64_t m : {1, 4, 13, 70}) test_one_x(numbers, m, 45);
      test_one_x(numbers, 30, 900);
      test_one_x(numbers, 200, 45);  // blocks enough for tasks that go through all panels
      for (int64_t m : {1, 13, 40}) test_sum(numbers, m, 37, {64, 31, 17});
      test_sum(numbers, 200, 37, {40, 20});
      test_sum(numbers, 13, 64, {900, 40});
      test_sum(numbers, 26, 33, {20, 1030, 50});
    }
  }
}

/// Panels too long to be made whole.
NATIVE_TEST(gemm_joint_by_pass) {
  const Numbers numbers{gemm_level(), DType::f32};
  test_sum(numbers, 14, 40, {3000, 200, 1500});
  test_sum(numbers, 13, 70, {4304});  // passes that are all shorter than the longest one may be
  test_sum(numbers, 13, 70, {2560, 2560});
}

}  // namespace
}  // namespace lorikeet
