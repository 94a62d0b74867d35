#include "ops/gradients.h"

#include "ops/gradient-norm.h"

namespace lorikeet {
namespace {

Tensor gradient_of(const Tensor& parameter) {
  const auto& meta = parameter.autograd();
  return meta ? meta->grad : Tensor();
}

}  // namespace

std::vector<bool> have_gradients(const std::vector<Tensor>& parameters) {
  std::vector<bool> have;
  have.reserve(parameters.size());
  for (const Tensor& parameter : parameters) have.push_back(gradient_of(parameter).defined());
  return have;
}

Tensors collected_gradients(const std::vector<Tensor>& parameters) {
  Tensors gradients;
  gradients.reserve(parameters.size());
  for (const Tensor& parameter : parameters) {
    if (Tensor gradient = gradient_of(parameter); gradient.defined()) gradients.push_back(std::move(gradient));
  }
  return gradients;
}

void clear_gradients(const std::vector<Tensor>& parameters) {
  for (const Tensor& parameter : parameters) {
    if (const auto& meta = parameter.autograd()) meta->grad = Tensor();
  }
}

Tensor gradient_norm(const std::vector<Tensor>& parameters) { return global_norm(collected_gradients(parameters)); }

Tensor non_finite_gradients(const std::vector<Tensor>& parameters) { return non_finite_count(collected_gradients(parameters)); }

void scale_gradients(const std::vector<Tensor>& parameters, const Tensor& scale) { scale_in_place(collected_gradients(parameters), scale); }

}  // namespace lorikeet
