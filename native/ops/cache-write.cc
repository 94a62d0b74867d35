#include "ops/cache-write.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {

void cache_write(const Tensor& cache, const Tensor& x, const Tensor& positions) {
  bool fits = cache.rank() >= 2 && cache.rank() == x.rank() && cache.size(0) == x.size(0) && x.size(1) <= cache.size(1);
  for (int i = 2; fits && i < x.rank(); ++i) fits = x.size(i) == cache.size(i);
  check_shape(fits, "cacheWrite: shapes do not fit; got cache ", to_string(cache.shape()), " and x ", to_string(x.shape()),
              ", expected [B, C, ..] and [B, T, ..] with T <= C");
  check_argument(cache.dtype() == x.dtype(), "cacheWrite: dtypes differ; got cache ", name_of(cache.dtype()), " and x ", name_of(x.dtype()),
                 ", cast x first");
  check_argument(positions.dtype() == DType::i64 && positions.shape() == Shape{x.size(0)}, "cacheWrite: positions must be i64 [B]; got ",
                 name_of(positions.dtype()), " ", to_string(positions.shape()));
  for (const Tensor* t : {&cache, &x, &positions})
    check(t->device() == Device::cpu, ErrorCode::device, "cacheWrite: no cuda kernel in this build");
  mark_changed("cacheWrite", cache);
  CopyArgs args{};
  args.from_dtype = args.to_dtype = x.dtype();
  args.rank = x.rank() - 1;
  for (int i = 0; i < args.rank; ++i) {
    args.sizes[i] = x.size(i + 1);
    args.from_strides[i] = x.strides()[i + 1];
    args.to_strides[i] = cache.strides()[i + 1];
  }
  Tensor start = contiguous(positions).detach();
  enqueue("cacheWrite", {cache, x, start}, {cache}, [args, cache = cache.detach(), x = x.detach(), start]() mutable {
    int64_t last = cache.size(1) - x.size(1), bytes = size_of(x.dtype());
    const int64_t* position = start.data<int64_t>();
    for (int64_t b = 0; b < x.size(0); ++b) {
      check_argument(position[b] >= 0 && position[b] <= last, "cacheWrite: a position is out of range; got ", position[b], " in row ", b,
                     ", expected 0 to ", last);
    }
    for (int64_t b = 0; b < x.size(0); ++b) {
      args.from = x.data<char>() + b * x.strides()[0] * bytes;
      args.to = cache.data<char>() + (b * cache.strides()[0] + position[b] * cache.strides()[1]) * bytes;
      copy_kernel(args);
    }
  });
}

}  // namespace lorikeet
