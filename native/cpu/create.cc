#include <cmath>

#include "core/rng.h"
#include "cpu/level.h"
#include "ops/create.h"

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kGrain = 16384;

template <class T>
LORIKEET_INLINE void put(T* p, double value) {
  *p = static_cast<T>(value);
}
LORIKEET_INLINE void put(BFloat16* p, double value) { store(p, static_cast<float>(value)); }
LORIKEET_INLINE void put(bool* p, double value) { *p = value != 0; }

/// Writes out[i] = value(i) for all i, in parallel over fixed blocks.
template <class T, class Value>
void generate(void* memory, int64_t n, const Value& value) {
  auto out = static_cast<T*>(memory);
  parallel_for((n + kGrain - 1) / kGrain, [&](int64_t task) {
    int64_t last = (task + 1) * kGrain < n ? (task + 1) * kGrain : n;
    for (int64_t i = task * kGrain; i < last; ++i) put(out + i, value(i));
  });
}

template <class Value>
void generate_any(DType dtype, void* out, int64_t n, const Value& value) {
  switch (dtype) {
    case DType::i64: return generate<int64_t>(out, n, value);
    case DType::i32: return generate<int32_t>(out, n, value);
    case DType::u8: return generate<uint8_t>(out, n, value);
    case DType::bool_: return generate<bool>(out, n, value);
    default: break;
  }
  LORIKEET_FLOAT_SWITCH(dtype, T, (generate<T>(out, n, value)))
}

void fill(const FillArgs& a) {
  generate_any(a.dtype, a.out, a.n, [value = a.value](int64_t) { return value; });
}

void arange(const ArangeArgs& a) {
  generate_any(a.dtype, a.out, a.n, [start = a.start, step = a.step](int64_t i) { return start + step * static_cast<double>(i); });
}

/// Four elements share one Philox block.
LORIKEET_INLINE uint32_t word_of(const RandomArgs& a, int64_t i) {
  return Philox(a.seed, a.stream, static_cast<uint64_t>(i) / 4).word[i % 4];
}

void uniform(const RandomArgs& a) {
  generate_any(a.dtype, a.out, a.n, [&](int64_t i) { return a.a + (a.b - a.a) * static_cast<double>(uniform_from(word_of(a, i))); });
}

void normal(const RandomArgs& a) {
  generate_any(a.dtype, a.out, a.n, [&](int64_t i) {
    // Words pair up within a block: the first of a pair gives the radius, the second the angle.
    Philox block(a.seed, a.stream, static_cast<uint64_t>(i) / 4);
    int pair = static_cast<int>(i % 4) / 2 * 2;
    double radius = std::sqrt(-2.0 * std::log((static_cast<double>(block.word[pair]) + 1.0) * 0x1p-32));
    double angle = 6.283185307179586 * (static_cast<double>(block.word[pair + 1]) * 0x1p-32);
    return a.a + a.b * radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(fill_kernel, lorikeet::LORIKEET_LEVEL::fill)
LORIKEET_KERNEL(uniform_kernel, lorikeet::LORIKEET_LEVEL::uniform)
LORIKEET_KERNEL(normal_kernel, lorikeet::LORIKEET_LEVEL::normal)
LORIKEET_KERNEL(arange_kernel, lorikeet::LORIKEET_LEVEL::arange)
