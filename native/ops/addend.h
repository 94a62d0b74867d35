#pragma once

#include "core/tensor.h"

namespace lorikeet {

/// Throws unless an op can add `addend` to x element by element without broadcasting.
inline void check_addend(const char* op, const Tensor& x, const Tensor& addend) {
  check_shape(x.shape() == addend.shape(), op, ": x and the addend must have one shape; got ", to_string(x.shape()), " and ",
              to_string(addend.shape()));
  check_argument(x.dtype() == addend.dtype(), op, ": x and the addend must have one dtype; got ", name_of(x.dtype()), " and ",
                 name_of(addend.dtype()), ", cast one of them");
}

}  // namespace lorikeet
