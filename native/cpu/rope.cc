#include "ops/rope.h"

#include <utility>

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

/// A row of heads, each by itself.
template <class T>
LORIKEET_INLINE void turn_row(const RopeArgs& a, const float* __restrict__ cos, const float* __restrict__ sin, const T* row, T* out) {
  using C = compute_t<T>;
  const C sign = a.inverse ? C(-1) : C(1);
  const int64_t half = a.half, width = a.width, heads = a.heads;
  for (int64_t head = 0; head < heads; ++head) {
    const T* __restrict__ x = row + head * width;
    T* __restrict__ y = out + head * width;
    for_each_vector<T>(half, [&](int64_t i, int64_t count) {
      Vector<C> x1 = load_stored(x + i, count), x2 = load_stored(x + half + i, count);
      Vector<C> c = table_vector<C>(cos + i, count), s = table_vector<C>(sin + i, count) * splat(sign);
      store_stored(y + i, x1 * c - x2 * s, count);
      store_stored(y + half + i, x2 * c + x1 * s, count);
    });
    for (int64_t i = 2 * half; i < width; ++i) y[i] = x[i];
  }
}

/// Every lane's partner in its pair: halves of `Half` lanes change places.
template <int Half, class V, size_t... Lane>
LORIKEET_INLINE V partners(V v, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(v, v, static_cast<int>(Lane ^ static_cast<size_t>(Half))...);
}

/// A row of narrow heads, several side by side in a vector, all turned by the same table.
template <int Half, class T>
LORIKEET_INLINE void turn_narrow_row(const RopeArgs& a, const float* cos, const float* sin, const T* __restrict__ x, T* __restrict__ y) {
  using C = compute_t<T>;
  constexpr int kLanesOfVector = kVectorWidth<C>;
  C cosines[kLanesOfVector], sines[kLanesOfVector];
  for (int lane = 0; lane < kLanesOfVector; ++lane) {
    const C sine = static_cast<C>(sin[lane % Half]);
    cosines[lane] = static_cast<C>(cos[lane % Half]);
    sines[lane] = (lane / Half % 2 == 0) != a.inverse ? -sine : sine;
  }
  const Vector<C> c = load_vector(cosines), s = load_vector(sines);
  for_each_vector<T>(a.heads * a.width, [&](int64_t i, int64_t count) {
    const Vector<C> v = load_stored(x + i, count);
    store_stored(y + i, v * c + partners<Half>(v, std::make_index_sequence<kLanesOfVector>()) * s, count);
  });
}

/// The width of a narrow half, a power of two below half a vector's, or 0.
template <class T>
int64_t narrow_half(const RopeArgs& a) {
  const bool power = a.half > 0 && (a.half & (a.half - 1)) == 0;
  return power && a.width == 2 * a.half && a.width <= kStoredWidth<T> ? a.half : 0;
}

template <int Half, class T>
void turn_rows(const RopeArgs& a) {
  for_each_row(a.rows, a.heads * a.width, [&](int64_t row) {
    const int64_t position =
        a.position_dtype == DType::i64 ? static_cast<const int64_t*>(a.positions)[row] : static_cast<const int32_t*>(a.positions)[row];
    const float *cos = a.cos + position * a.half, *sin = a.sin + position * a.half;
    const int64_t place = row * a.heads * a.width;
    const T* x = static_cast<const T*>(a.x) + place;
    T* y = static_cast<T*>(a.out) + place;
    if constexpr (Half == 0) {
      turn_row(a, cos, sin, x, y);
    } else {
      turn_narrow_row<Half>(a, cos, sin, x, y);
    }
  });
}

template <class T>
void turn(const RopeArgs& a) {
  constexpr int kWidest = kStoredWidth<T> / 2;
  const int64_t half = narrow_half<T>(a);
  if (half == 0) return turn_rows<0, T>(a);
  if (half == 1) return turn_rows<1, T>(a);
  if constexpr (kWidest >= 2) {
    if (half == 2) return turn_rows<2, T>(a);
  }
  if constexpr (kWidest >= 4) {
    if (half == 4) return turn_rows<4, T>(a);
  }
  if constexpr (kWidest >= 8) {
    if (half == 8) return turn_rows<8, T>(a);
  }
}

void rope(const RopeArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (turn<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(rope_kernel, lorikeet::LORIKEET_LEVEL::rope)
