#pragma once

// Matrices of any storage type for tests of products, and their double arithmetic.

#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/dtype.h"

namespace lorikeet::tests {

inline std::mt19937 generator(7);

/// A buffer of one storage type, read and written as double.
struct Buffer {
  DType dtype;
  std::vector<char> bytes;
  Buffer(DType type, int64_t count) : dtype(type), bytes(static_cast<size_t>(std::max<int64_t>(count, 1) * size_of(type))) {}
  void* data() { return bytes.data(); }
  double get(int64_t i) const {
    double value = 0;
    LORIKEET_FLOAT_SWITCH(dtype, T, value = static_cast<double>(load(reinterpret_cast<const T*>(bytes.data()) + i)));
    return value;
  }
  void set(int64_t i, double value) {
    LORIKEET_FLOAT_SWITCH(dtype, T, store(reinterpret_cast<T*>(bytes.data()) + i, static_cast<compute_t<T>>(value)));
  }
};

inline Buffer random_buffer(DType dtype, int64_t count) {
  Buffer buffer(dtype, count);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < count; ++i) buffer.set(i, normal(generator));
  return buffer;
}

struct Panels {
  char* data;
  explicit Panels(int64_t bytes) : data(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes / 64 * 64 + 64)))) {}
  ~Panels() { std::free(data); }
  Panels(const Panels&) = delete;
};

inline double dot(const Buffer& a, int64_t a_first, const Buffer& b, int64_t b_first, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += a.get(a_first + i) * b.get(b_first + i);
  return sum;
}

/// Half a unit in the last place of a storage type, relative.
inline double roundoff(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
}

}  // namespace lorikeet::tests
