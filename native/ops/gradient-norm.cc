#include "ops/gradient-norm.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_list(const char* op, const Tensors& tensors) {
  for (const Tensor& x : tensors) {
    check_argument(is_float(x.dtype()), op, ": needs floating tensors; got ", name_of(x.dtype()));
    check(x.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
  }
}

/// The sum over all chunks of what the kernel finds in each, in the order of the list.
double sum_over(const Tensors& tensors, const Kernel<ListSumArgs>& kernel) {
  TensorList list;
  for (const Tensor& x : tensors) list.add({x.dtype(), x.numel(), {x.raw()}, {}});
  std::vector<double> partials(static_cast<size_t>(list.chunks()));
  kernel({list.args(), partials.data()});
  double total = 0;
  for (double partial : partials) total += partial;
  return total;
}

Tensors packed(const Tensors& tensors) {
  NoGrad no_grad;
  Tensors result;
  for (const Tensor& x : tensors) result.push_back(contiguous(x.detach()));
  return result;
}

}  // namespace

Tensor global_norm(const std::vector<Tensor>& tensors) {
  check_list("globalNorm", tensors);
  bool wide = !tensors.empty() && std::all_of(tensors.begin(), tensors.end(), [](const Tensor& x) { return x.dtype() == DType::f64; });
  Tensor norm = empty(Shape{}, wide ? DType::f64 : DType::f32);
  Tensors inputs = packed(tensors);
  enqueue("globalNorm", inputs, {norm}, [=] {
    double value = std::sqrt(sum_over(inputs, square_sum_kernel));
    if (wide) {
      *norm.data<double>() = value;
    } else {
      *norm.data<float>() = static_cast<float>(value);
    }
  });
  return norm;
}

Tensor non_finite_count(const std::vector<Tensor>& tensors) {
  check_list("nonFiniteCount", tensors);
  Tensor count = empty(Shape{}, DType::i64);
  Tensors inputs = packed(tensors);
  enqueue("nonFiniteCount", inputs, {count}, [=] { *count.data<int64_t>() = static_cast<int64_t>(sum_over(inputs, non_finite_kernel)); });
  return count;
}

void scale_in_place(const std::vector<Tensor>& tensors, const Tensor& scale) {
  check_list("scaleInPlace", tensors);
  check_scale("scaleInPlace", scale);
  NoGrad no_grad;
  for (const Tensor& x : tensors) {
    check_argument(x.is_contiguous(), "scaleInPlace: needs contiguous tensors; got a strided ", to_string(x.shape()));
    mark_changed("scaleInPlace", x);
  }
  Tensors targets = detached(tensors), inputs = targets;
  inputs.push_back(scale.detach());
  enqueue("scaleInPlace", inputs, targets, [=, scale = scale.detach()] {
    TensorList list;
    for (const Tensor& x : targets) list.add({x.dtype(), x.numel(), {x.raw()}, {}});
    list_scale_kernel({list.args(), scale_of(scale)});
  });
}

}  // namespace lorikeet
