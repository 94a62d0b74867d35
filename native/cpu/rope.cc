#include "ops/rope.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
void turn(const RopeArgs& a) {
  using C = compute_t<T>;
  C sign = a.inverse ? C(-1) : C(1);
  for_each_row(a.rows, a.heads * a.width, [&](int64_t row) {
    int64_t position =
        a.position_dtype == DType::i64 ? static_cast<const int64_t*>(a.positions)[row] : static_cast<const int32_t*>(a.positions)[row];
    const float* __restrict__ cos = a.cos + position * a.half;
    const float* __restrict__ sin = a.sin + position * a.half;
    for (int64_t head = 0; head < a.heads; ++head) {
      const T* __restrict__ x = static_cast<const T*>(a.x) + (row * a.heads + head) * a.width;
      T* __restrict__ y = static_cast<T*>(a.out) + (row * a.heads + head) * a.width;
      for (int64_t i = 0; i < a.half; ++i) {
        C x1 = load(x + i), x2 = load(x + a.half + i), c = cos[i], s = sign * sin[i];
        store(y + i, x1 * c - x2 * s);
        store(y + a.half + i, x2 * c + x1 * s);
      }
      for (int64_t i = 2 * a.half; i < a.width; ++i) y[i] = x[i];
    }
  });
}

void rope(const RopeArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (turn<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(rope_kernel, lorikeet::LORIKEET_LEVEL::rope)
