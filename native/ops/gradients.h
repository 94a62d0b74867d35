#pragma once

#include <vector>

#include "core/autograd.h"

namespace lorikeet {

// What a list of parameters collected, taken together: one call for all of them. A parameter is a leaf; one that collects nothing has no
// gradient.

/// Which parameters have a gradient.
std::vector<bool> have_gradients(const std::vector<Tensor>& parameters);
/// The gradients of those that have one, in the order of the list.
Tensors collected_gradients(const std::vector<Tensor>& parameters);
/// Drops the gradients of all.
void clear_gradients(const std::vector<Tensor>& parameters);

/// `global_norm`, `non_finite_count` and `scale_in_place` of the gradients of those that have one.
Tensor gradient_norm(const std::vector<Tensor>& parameters);
Tensor non_finite_gradients(const std::vector<Tensor>& parameters);
void scale_gradients(const std::vector<Tensor>& parameters, const Tensor& scale);

}  // namespace lorikeet
