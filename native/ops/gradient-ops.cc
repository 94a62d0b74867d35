#include "core/gradient-ops.h"

#include <vector>

#include "core/stream.h"
#include "ops/copy.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace lorikeet {

Tensor add_gradients(const Tensor& a, const Tensor& b) { return binary(BinaryOp::add_op, a, b); }

Tensor reduce_to(const Tensor& gradient, const Shape& shape, DType dtype) {
  Tensor result = gradient;
  if (!(result.shape() == shape)) {
    int lead = result.rank() - shape.rank();
    check(lead >= 0, ErrorCode::internal, "backward: a gradient has too few dimensions; got ", to_string(result.shape()), ", expected ",
          to_string(shape));
    std::vector<int64_t> dims;
    for (int i = 0; i < result.rank(); ++i) {
      bool added = i < lead, widened = !added && shape[i - lead] == 1 && result.shape()[i] != 1;
      if (added || widened) dims.push_back(i);
    }
    if (!dims.empty()) result = reduce(ReduceOp::sum, result, dims, true);
    result = reshape(result, shape);
  }
  return cast(result, dtype);
}

Tensor filled(const Shape& shape, DType dtype, Device device, double value) {
  Tensor y = empty(shape, dtype, device);
  enqueue("full", {}, {y}, [y, value] { fill_kernel({y.dtype(), y.raw(), y.numel(), value}); });
  return y;
}

}  // namespace lorikeet
