// dx = dy W from the panels for y = x Wᵀ has the bits that it has from panels of its own, at every level of this machine.

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/level.h"
#include "ops/gemm.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

std::vector<char> random_values(DType dtype, int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<char> values(static_cast<size_t>(count * size_of(dtype) + 1));
  LORIKEET_FLOAT_SWITCH(
      dtype, T, for (int64_t i = 0; i < count; ++i) {
        store(reinterpret_cast<T*>(values.data()) + i, static_cast<compute_t<T>>(normal(generator)));
      });
  return values;
}

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};
using Panels = std::unique_ptr<char, Free>;

Panels packed(Level level, DType dtype, const std::vector<char>& w, int64_t outputs, int64_t contraction, bool turned) {
  const Panel panel = panel_for(dtype);
  const int64_t n = turned ? contraction : outputs, k = turned ? outputs : contraction;
  const int64_t bytes = panel_bytes(level, panel, n, k, 2);
  Panels panels(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 * 64 + 64))));
  gemm_pack_kernel.at_level(level)({w.data(), dtype, n, k, turned ? 1 : k, turned ? n : 1, 1.0, panel, 2, panels.get()});
  return panels;
}

void test_retile(Level level, DType x_dtype, DType w_dtype, int64_t m, int64_t outputs, int64_t contraction) {
  const Panel panel = panel_for(w_dtype);
  const std::vector<char> w = random_values(w_dtype, outputs * contraction, 1), dy = random_values(x_dtype, m * outputs, 2);
  const Panels forward = packed(level, w_dtype, w, outputs, contraction, false);
  const Panels backward = packed(level, w_dtype, w, outputs, contraction, true);
  const auto product = [&](const RightOperand& right) {
    std::vector<char> dx(static_cast<size_t>(m * contraction * size_of(x_dtype)));
    GemmArgs args{};
    args.x = dy.data();
    args.x_dtype = args.y_dtype = args.bias_dtype = x_dtype;
    args.x_row_stride = outputs;
    args.x_column_stride = 1;
    args.y = dx.data();
    args.y_row_stride = contraction;
    args.m = m;
    args.k = outputs;
    args.n = contraction;
    args.arithmetic = arithmetic_for(level, x_dtype, panel);
    args.right = right;
    gemm_kernel.at_level(level)(args);
    return dx;
  };
  RightOperand dual{panel}, retile{panel};
  dual.panels = backward.get();
  retile.panels = forward.get();
  retile.retile = true;
  EXPECT(product(dual) == product(retile), "%s x %s w %s m=%d [%d, %d]", name_of(level), name_of(x_dtype), name_of(w_dtype),
         static_cast<int>(m), static_cast<int>(outputs), static_cast<int>(contraction));
}

const DType kPairs[][2] = {{DType::f64, DType::f64}, {DType::f32, DType::f32},   {DType::f32, DType::bf16},
                           {DType::f32, DType::f16}, {DType::bf16, DType::bf16}, {DType::f16, DType::bf16}};
// m, outputs, contraction
const int64_t kSizes[][3] = {{1, 1, 1},     {2, 31, 33},  {15, 33, 31},   {17, 64, 32},
                             {33, 65, 129}, {31, 7, 200}, {130, 300, 97}, {300, 160, 96}};
// A contraction whose panels are made pass by pass: more bytes than a task makes at once at every level.
const int64_t kLong[] = {26, 33007, 70};

NATIVE_TEST(retile_at_every_level) {
  for (int level = 0; level <= static_cast<int>(gemm_level()); ++level) {
    for (const auto& types : kPairs) {
      for (const auto& size : kSizes) test_retile(static_cast<Level>(level), types[0], types[1], size[0], size[1], size[2]);
      test_retile(static_cast<Level>(level), types[0], types[1], kLong[0], kLong[1], kLong[2]);
    }
  }
}

}  // namespace
}  // namespace lorikeet
