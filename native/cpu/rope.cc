#include "ops/rope.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"
#include "cpu/stored-vector.h"

namespace lorikeet::LORIKEET_LEVEL {
namespace {

/// Elements of an f32 table as they are computed with.
template <class C>
LORIKEET_INLINE Vector<C> table_vector(const float* p, int64_t count) {
  if constexpr (__is_same(C, float)) {
    return load_stored(p, count);
  } else {
    Vector<C> v{};
    for (int64_t i = 0; i < count; ++i) v[i] = static_cast<C>(p[i]);
    return v;
  }
}

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
      for_each_vector<T>(a.half, [&](int64_t i, int64_t count) {
        Vector<C> x1 = load_stored(x + i, count), x2 = load_stored(x + a.half + i, count);
        Vector<C> c = table_vector<C>(cos + i, count), s = table_vector<C>(sin + i, count) * splat(sign);
        store_stored(y + i, x1 * c - x2 * s, count);
        store_stored(y + a.half + i, x2 * c + x1 * s, count);
      });
      for (int64_t i = 2 * a.half; i < a.width; ++i) y[i] = x[i];
    }
  });
}

void rope(const RopeArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (turn<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(rope_kernel, lorikeet::LORIKEET_LEVEL::rope)
