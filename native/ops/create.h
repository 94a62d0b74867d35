#pragma once

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// A tensor filled with one number.
Tensor full(const Shape& shape, DType dtype, double value);
/// 0, 1, 2, ... n-1 times step plus start.
Tensor arange(int64_t n, DType dtype, double start, double step);
/// Uniform numbers in [low, high), from counters (seed, stream, element index): the same on every machine and thread count. Floats only.
Tensor uniform(const Shape& shape, DType dtype, double low, double high, uint64_t seed, uint64_t stream);
/// Normal numbers by the Box-Muller transform of the same counters. Floats only.
Tensor normal(const Shape& shape, DType dtype, double mean, double deviation, uint64_t seed, uint64_t stream);

struct FillArgs {
  DType dtype;
  void* out;
  int64_t n;
  double value;
};
inline constinit Kernel<FillArgs> fill_kernel{"full"};

struct RandomArgs {
  DType dtype;
  void* out;
  int64_t n;
  double a, b;
  uint64_t seed, stream;
};
inline constinit Kernel<RandomArgs> uniform_kernel{"uniform"};
inline constinit Kernel<RandomArgs> normal_kernel{"normal"};

struct ArangeArgs {
  DType dtype;
  void* out;
  int64_t n;
  double start, step;
};
inline constinit Kernel<ArangeArgs> arange_kernel{"arange"};

}  // namespace lorikeet
