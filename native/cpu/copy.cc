#include "ops/copy.h"
#include "cpu/level.h"

// Strided copy with conversion. The innermost dimension is a plain loop; the others are walked by index. Values pass through double only
// for 64-bit types, else through float; integers convert exactly among themselves.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
struct Element {
  LORIKEET_INLINE static auto get(const T* p) { return *p; }
  template <class V>
  LORIKEET_INLINE static void put(T* p, V value) {
    *p = static_cast<T>(value);
  }
};
template <>
struct Element<BFloat16> {
  LORIKEET_INLINE static float get(const BFloat16* p) { return load(p); }
  template <class V>
  LORIKEET_INLINE static void put(BFloat16* p, V value) {
    store(p, static_cast<float>(value));
  }
};
template <>
struct Element<Float16> {
  LORIKEET_INLINE static float get(const Float16* p) { return load(p); }
  template <class V>
  LORIKEET_INLINE static void put(Float16* p, V value) {
    store(p, static_cast<float>(value));
  }
};
template <>
struct Element<bool> {
  LORIKEET_INLINE static uint8_t get(const bool* p) { return *p ? 1 : 0; }
  template <class V>
  LORIKEET_INLINE static void put(bool* p, V value) {
    *p = value != V(0);
  }
};

template <class From, class To>
void copy_row(const void* from_memory, void* to_memory, int64_t from_offset, int64_t to_offset, int64_t n, int64_t from_stride,
              int64_t to_stride) {
  auto from = static_cast<const From*>(from_memory) + from_offset;
  auto to = static_cast<To*>(to_memory) + to_offset;
  if (from_stride == 1 && to_stride == 1) {
    for (int64_t i = 0; i < n; ++i) Element<To>::put(to + i, Element<From>::get(from + i));
  } else {
    for (int64_t i = 0; i < n; ++i) Element<To>::put(to + i * to_stride, Element<From>::get(from + i * from_stride));
  }
}

using RowFunction = void (*)(const void*, void*, int64_t, int64_t, int64_t, int64_t, int64_t);

template <class From>
RowFunction choose_to(DType to) {
  switch (to) {
    case DType::f64: return copy_row<From, double>;
    case DType::f32: return copy_row<From, float>;
    case DType::bf16: return copy_row<From, BFloat16>;
    case DType::f16: return copy_row<From, Float16>;
    case DType::i64: return copy_row<From, int64_t>;
    case DType::i32: return copy_row<From, int32_t>;
    case DType::u8: return copy_row<From, uint8_t>;
    case DType::bool_: return copy_row<From, bool>;
  }
  return nullptr;
}

RowFunction choose(DType from, DType to) {
  switch (from) {
    case DType::f64: return choose_to<double>(to);
    case DType::f32: return choose_to<float>(to);
    case DType::bf16:
      if (to == DType::bf16) return copy_row<uint16_t, uint16_t>;
      return choose_to<BFloat16>(to);
    case DType::f16:
      if (to == DType::f16) return copy_row<uint16_t, uint16_t>;
      return choose_to<Float16>(to);
    case DType::i64: return choose_to<int64_t>(to);
    case DType::i32: return choose_to<int32_t>(to);
    case DType::u8: return choose_to<uint8_t>(to);
    case DType::bool_: return choose_to<bool>(to);
  }
  return nullptr;
}

void copy(const CopyArgs& a) {
  RowFunction row = choose(a.from_dtype, a.to_dtype);
  int outer = a.rank - 1;
  int64_t rows = 1;
  for (int i = 0; i < outer; ++i) rows *= a.sizes[i];
  int64_t columns = a.rank > 0 ? a.sizes[outer] : 1;
  int64_t from_stride = a.rank > 0 ? a.from_strides[outer] : 1, to_stride = a.rank > 0 ? a.to_strides[outer] : 1;
  if (rows == 0 || columns == 0) return;
  constexpr int64_t kGrain = 32768;
  int64_t pieces = rows == 1 ? (columns + kGrain - 1) / kGrain : 1;
  int64_t rows_per_task = columns >= kGrain ? 1 : kGrain / columns + 1;
  int64_t tasks = rows == 1 ? pieces : (rows + rows_per_task - 1) / rows_per_task;
  parallel_for(tasks, [&](int64_t task) {
    if (rows == 1) {
      int64_t start = task * kGrain, n = columns - start < kGrain ? columns - start : kGrain;
      row(a.from, a.to, start * from_stride, start * to_stride, n, from_stride, to_stride);
      return;
    }
    int64_t first = task * rows_per_task, last = first + rows_per_task < rows ? first + rows_per_task : rows;
    for (int64_t r = first; r < last; ++r) {
      int64_t rest = r, from = 0, to = 0;
      for (int d = outer - 1; d >= 0; --d) {
        int64_t index = rest % a.sizes[d];
        rest /= a.sizes[d];
        from += index * a.from_strides[d];
        to += index * a.to_strides[d];
      }
      row(a.from, a.to, from, to, columns, from_stride, to_stride);
    }
  });
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(copy_kernel, lorikeet::LORIKEET_LEVEL::copy)
