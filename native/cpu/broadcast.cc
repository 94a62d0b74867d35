#include "cpu/level.h"
#include "ops/elementwise.h"

// Binary ops, comparisons and `where` over a broadcast grid: rows addressed by outer strides, a plain loop over columns whose strides are
// 0, 1 or any.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

constexpr int64_t kGrain = 16384;

#define LORIKEET_BINARY(name, expression)         \
  struct name##_functor {                         \
    template <class T>                            \
    LORIKEET_INLINE static auto apply(T a, T b) { \
      return expression;                          \
    }                                             \
  };
LORIKEET_BINARY(add, a + b)
LORIKEET_BINARY(sub, a - b)
LORIKEET_BINARY(mul, a* b)
LORIKEET_BINARY(div, a / b)
LORIKEET_BINARY(maximum, a > b || a != a ? a : b)
LORIKEET_BINARY(minimum, a < b || a != a ? a : b)
LORIKEET_BINARY(equal, a == b)
LORIKEET_BINARY(notEqual, a != b)
LORIKEET_BINARY(less, a < b)
LORIKEET_BINARY(lessEqual, a <= b)
LORIKEET_BINARY(greater, a > b)
LORIKEET_BINARY(greaterEqual, a >= b)
LORIKEET_BINARY(logicalAnd, a != T(0) && b != T(0))
LORIKEET_BINARY(logicalOr, a != T(0) || b != T(0))

LORIKEET_INLINE int64_t load(const int64_t* p) { return *p; }
LORIKEET_INLINE int32_t load(const int32_t* p) { return *p; }
LORIKEET_INLINE uint8_t load(const uint8_t* p) { return *p; }
LORIKEET_INLINE void store(int64_t* p, int64_t v) { *p = v; }
LORIKEET_INLINE void store(int32_t* p, int32_t v) { *p = v; }
LORIKEET_INLINE void store(uint8_t* p, int v) { *p = static_cast<uint8_t>(v); }
LORIKEET_INLINE void store(bool* p, bool v) { *p = v; }
using lorikeet::load;
using lorikeet::store;

/// Calls row(row index, offsets of the operands) for every row, in parallel over fixed blocks of rows.
template <int Operands, class Row>
LORIKEET_INLINE void for_each_row(const BroadcastArgs& g, const Row& row) {
  int64_t rows_per_task = g.columns >= kGrain ? 1 : kGrain / (g.columns > 0 ? g.columns : 1) + 1;
  parallel_for((g.rows + rows_per_task - 1) / rows_per_task, [&](int64_t task) {
    int64_t first = task * rows_per_task, last = first + rows_per_task < g.rows ? first + rows_per_task : g.rows;
    for (int64_t r = first; r < last; ++r) {
      int64_t offsets[3] = {0, 0, 0};
      int64_t rest = r;
      for (int d = g.outer_rank - 1; d >= 0; --d) {
        int64_t index = rest % g.outer_sizes[d];
        rest /= g.outer_sizes[d];
        for (int k = 0; k < Operands; ++k) offsets[k] += index * g.outer_strides[k][d];
      }
      row(r, offsets);
    }
  });
}

template <class F, class T, class Out>
void binary_loop(const BroadcastArgs& g) {
  auto a_base = static_cast<const T*>(g.a);
  auto b_base = static_cast<const T*>(g.b);
  auto out = static_cast<Out*>(g.out);
  int64_t sa = g.column_strides[0], sb = g.column_strides[1];
  for_each_row<2>(g, [&](int64_t r, const int64_t* offsets) {
    const T* a = a_base + offsets[0];
    const T* b = b_base + offsets[1];
    Out* y = out + r * g.columns;
    if (sa == 1 && sb == 1) {
      for (int64_t i = 0; i < g.columns; ++i) store(y + i, F::apply(load(a + i), load(b + i)));
    } else if (sa == 1 && sb == 0) {
      auto value = load(b);
      for (int64_t i = 0; i < g.columns; ++i) store(y + i, F::apply(load(a + i), value));
    } else {
      for (int64_t i = 0; i < g.columns; ++i) store(y + i, F::apply(load(a + i * sa), load(b + i * sb)));
    }
  });
}

template <class F>
void binary_dtype(const BroadcastArgs& g) {
  if (g.dtype == DType::i64) return binary_loop<F, int64_t, int64_t>(g);
  if (g.dtype == DType::i32) return binary_loop<F, int32_t, int32_t>(g);
  LORIKEET_FLOAT_SWITCH(g.dtype, T, (binary_loop<F, T, T>(g)))
}

template <class F>
void compare_dtype(const BroadcastArgs& g) {
  if (g.dtype == DType::i64) return binary_loop<F, int64_t, bool>(g);
  if (g.dtype == DType::i32) return binary_loop<F, int32_t, bool>(g);
  if (g.dtype == DType::u8 || g.dtype == DType::bool_) return binary_loop<F, uint8_t, bool>(g);
  LORIKEET_FLOAT_SWITCH(g.dtype, T, (binary_loop<F, T, bool>(g)))
}

void binary(const BroadcastArgs& g) {
  switch (static_cast<BinaryOp>(g.op)) {
#define LORIKEET_CASE(name) \
  case BinaryOp::name##_op: binary_dtype<name##_functor>(g); break;
    LORIKEET_BINARY_OPS(LORIKEET_CASE)
#undef LORIKEET_CASE
    case BinaryOp::count: break;
  }
}

void compare(const BroadcastArgs& g) {
  switch (static_cast<CompareOp>(g.op)) {
#define LORIKEET_CASE(name) \
  case CompareOp::name##_op: compare_dtype<name##_functor>(g); break;
    LORIKEET_COMPARE_OPS(LORIKEET_CASE)
#undef LORIKEET_CASE
    case CompareOp::count: break;
  }
}

template <class Bits>
void where_loop(const BroadcastArgs& g) {
  auto condition_base = static_cast<const bool*>(g.a);
  auto a_base = static_cast<const Bits*>(g.b);
  auto b_base = static_cast<const Bits*>(g.c);
  auto out = static_cast<Bits*>(g.out);
  for_each_row<3>(g, [&](int64_t r, const int64_t* offsets) {
    const bool* condition = condition_base + offsets[0];
    const Bits* a = a_base + offsets[1];
    const Bits* b = b_base + offsets[2];
    Bits* y = out + r * g.columns;
    for (int64_t i = 0; i < g.columns; ++i) {
      y[i] = condition[i * g.column_strides[0]] ? a[i * g.column_strides[1]] : b[i * g.column_strides[2]];
    }
  });
}

/// Selection moves bits, so only the element's size matters.
void where(const BroadcastArgs& g) {
  switch (size_of(g.dtype)) {
    case 8: return where_loop<uint64_t>(g);
    case 4: return where_loop<uint32_t>(g);
    case 2: return where_loop<uint16_t>(g);
    default: return where_loop<uint8_t>(g);
  }
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(binary_kernel, lorikeet::LORIKEET_LEVEL::binary)
LORIKEET_KERNEL(compare_kernel, lorikeet::LORIKEET_LEVEL::compare)
LORIKEET_KERNEL(where_kernel, lorikeet::LORIKEET_LEVEL::where)
