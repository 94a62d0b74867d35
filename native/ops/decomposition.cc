#include "ops/decomposition.h"

#include "core/autograd.h"
#include "ops/copy.h"

namespace lorikeet {

void check_matrix(const char* op, const Tensor& x) {
  check_shape(x.rank() >= 2, op, ": needs a matrix or a batch of matrices; got ", to_string(x.shape()), ", expected [.., M, N]");
  check_argument(is_float(x.dtype()), op, ": needs a floating dtype; got ", name_of(x.dtype()), ", cast it first");
  check(x.device() == Device::cpu, ErrorCode::device, op, ": runs on the cpu only; got cuda, move the tensor first");
  check_argument(!needs_record({&x}), op, ": is not differentiable; detach the tensor or call it in noGrad()");
}

Tensor matrix_copy(const Tensor& x) {
  NoGrad no_grad;
  return x.dtype() == DType::f64 || x.dtype() == DType::f32 ? clone(x.detach()) : contiguous(cast(x.detach(), DType::f32));
}

void check_square(const char* op, const Tensor& x) {
  check_shape(x.size(-1) == x.size(-2), op, ": the matrices must be square; got ", to_string(x.shape()), ", expected [.., N, N]");
}

int64_t matrix_count(const Tensor& x) { return x.numel() == 0 ? 0 : x.numel() / (x.size(-2) * x.size(-1)); }

Shape with_matrix(const Shape& shape, int64_t rows, int64_t columns) {
  Shape result = shape;
  result[shape.rank() - 2] = rows;
  result[shape.rank() - 1] = columns;
  return result;
}

Shape with_vector(const Shape& shape, int64_t size) {
  Shape result = shape;
  result.erase(shape.rank() - 1);
  result[shape.rank() - 2] = size;
  return result;
}

}  // namespace lorikeet
