#include "ops/create.h"

#include "core/gradient-ops.h"
#include "core/stream.h"

namespace lorikeet {
namespace {

Tensor random(const char* name, const Kernel<RandomArgs>& kernel, const Shape& shape, DType dtype, double a, double b, uint64_t seed,
              uint64_t stream) {
  check_argument(is_float(dtype), name, ": needs a floating dtype; got ", name_of(dtype));
  Tensor y = empty(shape, dtype);
  enqueue(name, {}, {y}, [=, &kernel] { kernel({dtype, y.raw(), y.numel(), a, b, seed, stream}); });
  return y;
}

}  // namespace

Tensor full(const Shape& shape, DType dtype, double value) { return filled(shape, dtype, Device::cpu, value); }

Tensor arange(int64_t n, DType dtype, double start, double step) {
  check_shape(n >= 0, "arange: negative length; got ", n);
  check_argument(dtype != DType::bool_, "arange: needs numbers; got bool");
  Tensor y = empty(Shape{n}, dtype);
  enqueue("arange", {}, {y}, [=] { arange_kernel({dtype, y.raw(), n, start, step}); });
  return y;
}

Tensor uniform(const Shape& shape, DType dtype, double low, double high, uint64_t seed, uint64_t stream) {
  check_argument(low <= high, "uniform: the range is empty; got [", low, ", ", high, ")");
  return random("uniform", uniform_kernel, shape, dtype, low, high, seed, stream);
}

Tensor normal(const Shape& shape, DType dtype, double mean, double deviation, uint64_t seed, uint64_t stream) {
  check_argument(deviation >= 0, "normal: negative deviation; got ", deviation);
  return random("normal", normal_kernel, shape, dtype, mean, deviation, seed, stream);
}

}  // namespace lorikeet
