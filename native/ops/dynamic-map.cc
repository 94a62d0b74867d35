#include "ops/dynamic-map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/stream.h"
#include "core/tensor.h"
#include "ops/optimizers.h"

namespace lorikeet {
namespace {

constexpr int kExponents = 7;

/// Point `i` of `count` evenly spaced ones from 0.1 to 1, counted from the nearer end in one rounding as torch.linspace does.
float boundary(int i, int count) {
  const float start = 0.1f, end = 1.0f, step = (end - start) / static_cast<float>(count - 1);
  return i < count / 2 ? std::fma(step, static_cast<float>(i), start) : std::fma(-step, static_cast<float>(count - i - 1), end);
}

/// Each decade from 10^-6 to 1 has twice the values of the one below: the middles between evenly spaced boundaries. 0 and 1 complete the
/// 256.
std::array<float, 256> make_map(bool is_signed) {
  std::array<float, 256> map{};
  int filled = 0;
  for (int i = 0; i < kExponents; ++i) {
    const int boundaries = (1 << (is_signed ? i : i + 1)) + 1;
    const float decade = static_cast<float>(std::pow(10.0, i - (kExponents - 1)));
    for (int k = 0; k + 1 < boundaries; ++k) {
      const float value = decade * ((boundary(k, boundaries) + boundary(k + 1, boundaries)) / 2);
      map[filled++] = value;
      if (is_signed) map[filled++] = -value;
    }
  }
  map[filled++] = 0;
  map[filled++] = 1;
  check(filled == 256, ErrorCode::internal, "dynamicMap: the table has ", filled, " values");
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace

const float* dynamic_map_values(bool is_signed) {
  static const std::array<float, 256> maps[2] = {make_map(false), make_map(true)};
  return maps[is_signed ? 1 : 0].data();
}

Tensor dynamic_map(bool is_signed) {
  Tensor map = empty({256}, DType::f32);
  enqueue("dynamicMap", {}, {map}, [=] { std::copy_n(dynamic_map_values(is_signed), 256, map.data<float>()); });
  return map;
}

}  // namespace lorikeet
