#include "core/shape.h"

#include <algorithm>

#include "core/error.h"

namespace lorikeet {

Shape::Shape(std::initializer_list<int64_t> sizes) {
  for (int64_t size : sizes) push_back(size);
}

Shape::Shape(int rank, int64_t fill) : rank_(rank) {
  check_shape(rank <= kMaxRank, "shape: too many dimensions; got ", rank, ", expected at most ", kMaxRank);
  std::fill(sizes_.begin(), sizes_.begin() + rank, fill);
}

void Shape::push_back(int64_t size) {
  check_shape(rank_ < kMaxRank, "shape: too many dimensions; got ", rank_ + 1, ", expected at most ", kMaxRank);
  sizes_[rank_++] = size;
}

void Shape::erase(int dim) {
  std::copy(sizes_.begin() + dim + 1, sizes_.begin() + rank_, sizes_.begin() + dim);
  sizes_[--rank_] = 0;
}

void Shape::insert(int dim, int64_t size) {
  push_back(0);
  std::copy_backward(sizes_.begin() + dim, sizes_.begin() + rank_ - 1, sizes_.begin() + rank_);
  sizes_[dim] = size;
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int i = 0; i < rank_; ++i) {
    check_shape(!__builtin_mul_overflow(product, sizes_[i], &product), "shape: too many elements; got ", to_string(*this));
  }
  return product;
}

bool Shape::operator==(const Shape& other) const { return rank_ == other.rank_ && std::equal(begin(), end(), other.begin()); }

ShapeText::operator std::string() const {
  if (shape_ == nullptr) return text_;
  std::string text = "[";
  for (int i = 0; i < shape_->rank(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string((*shape_)[i]);
  }
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const ShapeText& text) { return out << std::string(text); }

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.rank());
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  int rank = std::max(a.rank(), b.rank());
  Shape out(rank);
  for (int i = 0; i < rank; ++i) {
    int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    int64_t sa = ia >= 0 ? a[ia] : 1, sb = ib >= 0 ? b[ib] : 1;
    check_shape(sa == sb || sa == 1 || sb == 1, op, ": shapes do not broadcast; got a ", to_string(a), " and b ", to_string(b));
    out[i] = sa == 1 ? sb : sa;
  }
  return out;
}

int normalize_dim(const char* op, int64_t dim, int rank) {
  check_shape(dim >= -rank && dim < rank, op, ": dimension out of range; got ", dim, ", expected -", rank, " to ", rank - 1);
  return static_cast<int>(dim < 0 ? dim + rank : dim);
}

}  // namespace lorikeet
