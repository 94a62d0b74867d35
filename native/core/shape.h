#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>

namespace lorikeet {

inline constexpr int kMaxRank = 8;

/// Sizes (or strides, in elements) of up to kMaxRank dimensions.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(int rank, int64_t fill = 0);

  int rank() const { return rank_; }
  int64_t operator[](int dim) const { return sizes_[dim]; }
  int64_t& operator[](int dim) { return sizes_[dim]; }
  /// The last size (rank must be at least 1).
  int64_t back() const { return sizes_[rank_ - 1]; }
  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  void push_back(int64_t size);
  void erase(int dim);
  void insert(int dim, int64_t size);

  int64_t numel() const;
  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// "[2, 3]", written when it is needed: a check that holds pays nothing for its message. The shape must outlive it.
class ShapeText {
 public:
  explicit ShapeText(const Shape& shape) : shape_(&shape) {}
  /// In place of a shape that is not there.
  ShapeText(const char* text) : text_(text) {}
  operator std::string() const;

 private:
  const Shape* shape_ = nullptr;
  const char* text_ = "";
};
std::ostream& operator<<(std::ostream& out, const ShapeText& text);

inline ShapeText to_string(const Shape& shape) { return ShapeText(shape); }

/// Row-major strides of a shape.
Shape contiguous_strides(const Shape& shape);

/// The shape both broadcast to (NumPy rules); throws `op: shapes do not broadcast; got a ... and b ...`.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

/// Turns a dimension in [-rank, rank) into [0, rank); throws naming the op.
int normalize_dim(const char* op, int64_t dim, int rank);

}  // namespace lorikeet
