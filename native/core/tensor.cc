#include "core/tensor.h"

#include "core/recycled.h"

namespace lorikeet {

Tensor::Tensor(std::shared_ptr<Storage> storage, DType dtype, const Shape& shape, const Shape& strides, int64_t offset)
    : impl_(std::allocate_shared<Impl>(Recycled<Impl>(), std::move(storage), shape, strides, offset, dtype)) {}

bool Tensor::is_contiguous() const {
  int64_t expected = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape()[i] == 0) return true;
    if (shape()[i] != 1 && strides()[i] != expected) return false;
    expected *= shape()[i];
  }
  return true;
}

Tensor Tensor::view(const Shape& shape, const Shape& strides, int64_t offset) const {
  return Tensor(impl_->storage, impl_->dtype, shape, strides, offset);
}

Tensor Tensor::detach() const { return view(impl_->shape, impl_->strides, impl_->offset); }

Tensor empty(const Shape& shape, DType dtype, Device device) {
  int64_t bytes = 0;
  for (int i = 0; i < shape.rank(); ++i) check_shape(shape[i] >= 0, "empty: negative size; got ", to_string(shape));
  check_shape(!__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes), "empty: too many elements; got ", to_string(shape));
  return Tensor(std::allocate_shared<Storage>(Recycled<Storage>(), device, bytes), dtype, shape, contiguous_strides(shape), 0);
}

}  // namespace lorikeet
