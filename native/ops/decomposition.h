#pragma once

#include <algorithm>

#include "core/tensor.h"

// What the decompositions have in common: each matrix of a batch is decomposed alone, in f32 or f64, without a gradient.

namespace lorikeet {

/// Throws unless x has rank 2 or more, a floating dtype, a place on the CPU, and would not be recorded.
void check_matrix(const char* op, const Tensor& x);
/// A contiguous copy of x for the work to overwrite, 16-bit types widened to f32.
Tensor matrix_copy(const Tensor& x);
/// Throws a shape error unless the matrices of x are square.
void check_square(const char* op, const Tensor& x);

/// The number of matrices in x.
int64_t matrix_count(const Tensor& x);
/// The shape of x with its last two sizes replaced.
Shape with_matrix(const Shape& shape, int64_t rows, int64_t columns);
/// The shape of x with its last two sizes replaced by one.
Shape with_vector(const Shape& shape, int64_t size);

/// Throws a non-finite error unless all n values are finite. Runs on the stream.
template <class T>
void check_finite(const char* op, const T* values, int64_t n) {
  check(std::all_of(values, values + n, [](T value) { return value - value == T(0); }), ErrorCode::non_finite, op,
        ": the matrix holds NaN or infinite values; expected finite ones");
}

/// Calls function(float{}) or function(double{}).
template <class Function>
void for_type(DType dtype, const Function& function) {
  if (dtype == DType::f32) return function(float{});
  function(double{});
}

}  // namespace lorikeet
