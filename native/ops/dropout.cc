#include "ops/dropout.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

Tensor masked(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  Tensor y = empty_like(x);
  enqueue("dropout", {x}, {y}, [=, x = x.detach(), y = y.detach()] {
    dropout_kernel({x.dtype(), x.raw(), y.raw(), x.numel(), p, seed, stream});
  });
  return y;
}

}  // namespace

Tensor dropout(const Tensor& input, double p, uint64_t seed, uint64_t stream) {
  check_argument(is_float(input.dtype()), "dropout: needs a floating tensor; got ", name_of(input.dtype()), ", cast it first");
  check_argument(p >= 0 && p < 1, "dropout: the probability must be at least 0 and below 1; got ", p);
  check(input.device() == Device::cpu, ErrorCode::device, "dropout: no cuda kernel in this build");
  Tensor x = contiguous(input);
  Tensor y = masked(x, p, seed, stream);
  if (needs_record({&x})) {
    record("dropout", {x}, {y}, [=](const Tensors& dy, const Wanted&) -> Tensors { return {masked(contiguous(dy[0]), p, seed, stream)}; });
  }
  return y;
}

}  // namespace lorikeet
