#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"
#include "core/storage.h"

namespace lorikeet {

struct AutogradMeta;

/// A strided view of a storage, with its place on the tape. Cheap to copy (a shared pointer); a default-constructed Tensor is undefined.
/// All methods but data<T>() belong to the JavaScript thread; data<T>() is for work that runs on the stream.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, DType dtype, const Shape& shape, const Shape& strides, int64_t offset);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const { return impl_->shape; }
  const Shape& strides() const { return impl_->strides; }
  int rank() const { return impl_->shape.rank(); }
  int64_t size(int dim) const { return impl_->shape[dim < 0 ? dim + rank() : dim]; }
  int64_t numel() const { return impl_->numel; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->storage->device(); }
  int64_t offset() const { return impl_->offset; }
  bool is_contiguous() const;
  const std::shared_ptr<Storage>& storage() const { return impl_->storage; }
  bool same_as(const Tensor& other) const { return impl_ == other.impl_; }

  /// Pointer to the first element. Only inside stream work, after its storages are there.
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(impl_->storage->data()) + impl_->offset * size_of(impl_->dtype));
  }
  void* raw() const { return data<char>(); }

  /// The same memory with another shape and strides (elements), without a place on the tape.
  Tensor view(const Shape& shape, const Shape& strides, int64_t offset) const;
  /// The same memory and shape, without a place on the tape.
  Tensor detach() const;

  /// Tape state; null until the tensor takes part in autograd. See autograd.h.
  const std::shared_ptr<AutogradMeta>& autograd() const { return impl_->autograd; }
  void set_autograd(std::shared_ptr<AutogradMeta> meta) const { impl_->autograd = std::move(meta); }

 private:
  struct Impl {
    Impl(std::shared_ptr<Storage> storage, const Shape& shape, const Shape& strides, int64_t offset, DType dtype)
        : storage(std::move(storage)), shape(shape), strides(strides), offset(offset), numel(shape.numel()), dtype(dtype) {}

    std::shared_ptr<Storage> storage;
    Shape shape;
    Shape strides;
    int64_t offset;
    int64_t numel;
    DType dtype;
    std::shared_ptr<AutogradMeta> autograd;
  };
  std::shared_ptr<Impl> impl_;
};

/// A new contiguous tensor; its memory is taken when work that writes it runs.
Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu);
inline Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype(), x.device()); }

}  // namespace lorikeet
