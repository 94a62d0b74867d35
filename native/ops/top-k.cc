#include "ops/top-k.h"

#include "core/autograd.h"
#include "core/gradient-ops.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/gather.h"

namespace lorikeet {

std::vector<Tensor> top_k(const Tensor& input, int64_t k) {
  check_argument(is_float(input.dtype()), "topK: needs a floating tensor; got ", name_of(input.dtype()), ", cast it first");
  check_shape(input.rank() >= 1, "topK: needs at least one dimension; got a scalar");
  check_argument(k >= 0 && k <= input.size(-1), "topK: k is outside the row; got k ", k, " and x ", to_string(input.shape()),
                 ", expected 0 to ", input.size(-1));
  check(input.device() == Device::cpu, ErrorCode::device, "topK: no cuda kernel in this build");
  Tensor x = contiguous(input);
  Shape shape = x.shape();
  shape[x.rank() - 1] = k;
  Tensor values = empty(shape, x.dtype()), indices = empty(shape, DType::i64);
  int64_t columns = x.size(-1), rows = columns == 0 ? 0 : x.numel() / columns;
  enqueue("topK", {x}, {values, indices}, [=, x = x.detach(), values = values.detach(), indices = indices.detach()] {
    top_k_kernel({x.dtype(), x.raw(), values.raw(), indices.data<int64_t>(), rows, columns, k});
  });
  if (needs_record({&x})) {
    Saved saved(indices);
    record("topK", {x}, {values, indices}, [=, full = x.shape()](const Tensors& dy, const Wanted&) -> Tensors {
      return {scatter_add(filled(full, dy[0].dtype(), Device::cpu, 0), -1, saved.get("topK"), dy[0])};
    });
  }
  return {values, indices};
}

}  // namespace lorikeet
