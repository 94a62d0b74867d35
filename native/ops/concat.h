#pragma once

#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// The tensors one after the other along `dim`: one dtype, equal sizes in the other dimensions, at least one tensor. Inputs may be views.
/// Differentiable; each gradient is a view of the output's.
Tensor concatenate(const std::vector<Tensor>& tensors, int64_t dim);

}  // namespace lorikeet
