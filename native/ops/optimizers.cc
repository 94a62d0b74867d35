#include "ops/optimizers.h"

#include <cmath>

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/dynamic-map.h"
#include "ops/gradients.h"

namespace lorikeet {
namespace {

/// The gradients of the parameters, one each.
Tensors checked_gradients(const char* op, const Tensors& parameters, const std::vector<double>& steps) {
  check_argument(parameters.size() == steps.size(), op, ": lists differ in length; got ", parameters.size(), " parameters and ",
                 steps.size(), " steps");
  const Tensors gradients = collected_gradients(parameters);
  check_argument(gradients.size() == parameters.size(), op, ": every parameter needs a gradient; got ", gradients.size(), " for ",
                 parameters.size(), " parameters");
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor &p = parameters[i], &g = gradients[i];
    check_argument(is_float(p.dtype()) && p.dtype() == g.dtype(), op, ": parameter ", i,
                   " and its gradient must be of one floating dtype; got ", name_of(p.dtype()), " and ", name_of(g.dtype()));
    check_shape(p.shape() == g.shape(), op, ": parameter ", i, " and its gradient differ in shape; got ", to_string(p.shape()), " and ",
                to_string(g.shape()));
    check_argument(p.is_contiguous(), op, ": parameter ", i, " must be contiguous; got a strided ", to_string(p.shape()));
    check(p.device() == Device::cpu && g.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
    check_argument(steps[i] >= 1, op, ": steps are counted from 1; got ", steps[i]);
  }
  return gradients;
}

void check_states(const char* op, const char* what, const Tensors& parameters, const Tensors& states) {
  check_argument(states.size() == parameters.size(), op, ": lists differ in length; got ", parameters.size(), " parameters and ",
                 states.size(), " ", what);
  for (size_t i = 0; i < states.size(); ++i) {
    DType expected = parameters[i].dtype() == DType::f64 ? DType::f64 : DType::f32;
    check_argument(states[i].dtype() == expected && states[i].shape() == parameters[i].shape() && states[i].is_contiguous(), op, ": ", what,
                   " ", i, " does not fit its parameter; got ", name_of(states[i].dtype()), to_string(states[i].shape()), ", expected ",
                   name_of(expected), to_string(parameters[i].shape()));
  }
}

/// Marks parameters and states changed and queues `run`, which gets them list by list (parameters first) with the gradients packed. `read`
/// are tensors that it reads beside them.
template <class Run>
void enqueue_step(const char* op, const Tensors& parameters, const Tensors& gradients, std::initializer_list<const Tensors*> states,
                  const std::optional<Tensor>& scale, Run run, const Tensors& read = {}) {
  NoGrad no_grad;
  std::vector<Tensors> lists{detached(parameters)};
  for (const Tensors* list : states) lists.push_back(detached(*list));
  Tensors outputs, inputs, packed;
  for (const Tensors& list : lists) outputs.insert(outputs.end(), list.begin(), list.end());
  for (const Tensor& changed : outputs) mark_changed(op, changed);
  for (const Tensor& g : gradients) packed.push_back(contiguous(g.autograd() ? g.detach() : g));
  inputs = outputs;
  inputs.insert(inputs.end(), packed.begin(), packed.end());
  inputs.insert(inputs.end(), read.begin(), read.end());
  Tensor factor = scale ? scale->detach() : Tensor();
  check_scale(op, factor);
  inputs.push_back(factor);
  enqueue(op, std::move(inputs), std::move(outputs),
          [run, factor, lists = std::move(lists), packed = std::move(packed)] { run(lists, packed, scale_of(factor)); });
}

/// Throws unless each mask fits its parameter and the moments its owned entries.
void check_masks(const char* op, const Tensors& parameters, const Tensors& masks, std::initializer_list<const Tensors*> moments) {
  for (const Tensors* list : {&masks, *moments.begin(), *(moments.end() - 1)}) {
    check_argument(list->size() == parameters.size(), op, ": lists differ in length; got ", parameters.size(), " parameters and ",
                   list->size(), list == &masks ? " masks" : " moments");
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensors& first = **moments.begin();
    const DType dtype = parameters[i].dtype() == DType::f64 ? DType::f64 : DType::f32;
    for (const Tensors* list : moments) {
      const Tensor& moment = (*list)[i];
      check_argument(moment.dtype() == dtype && moment.rank() == 1 && moment.shape() == first[i].shape() && moment.is_contiguous(), op,
                     ": moments ", i, " do not fit their parameter; got ", name_of(moment.dtype()), to_string(moment.shape()),
                     ", expected ", name_of(dtype), " of one dimension and one length");
    }
    check_mask(op, masks[i], parameters[i].numel(), first[i].numel());
  }
}

void check_bytes(const char* op, const char* what, const Tensors& parameters, const Tensors& bytes, const Tensors& scales) {
  check_argument(bytes.size() == parameters.size() && scales.size() == parameters.size(), op, ": lists differ in length; got ",
                 parameters.size(), " parameters, ", bytes.size(), " ", what, " and ", scales.size(), " lists of scales");
  for (size_t i = 0; i < bytes.size(); ++i) {
    check_argument(parameters[i].dtype() != DType::f64, op, ": parameter ", i, " is f64; expected f32, bf16 or f16");
    check_argument(bytes[i].dtype() == DType::u8 && bytes[i].shape() == parameters[i].shape() && bytes[i].is_contiguous(), op, ": ", what,
                   " ", i, " do not fit their parameter; got ", name_of(bytes[i].dtype()), to_string(bytes[i].shape()), ", expected u8",
                   to_string(parameters[i].shape()));
    Shape blocks{(parameters[i].numel() + kStateBlock - 1) / kStateBlock};
    check_argument(scales[i].dtype() == DType::f32 && scales[i].shape() == blocks && scales[i].is_contiguous(), op, ": scales of ", what,
                   " ", i, " do not fit; got ", name_of(scales[i].dtype()), to_string(scales[i].shape()), ", expected f32",
                   to_string(blocks));
  }
}

}  // namespace

void adamw_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& first_moments, const std::vector<Tensor>& second_moments,
                const std::vector<double>& steps, double rate, double beta1, double beta2, double eps, double decay,
                const std::optional<Tensor>& scale) {
  const Tensors gradients = checked_gradients("adamwStep", parameters, steps);
  check_states("adamwStep", "first moments", parameters, first_moments);
  check_states("adamwStep", "second moments", parameters, second_moments);
  enqueue_step("adamwStep", parameters, gradients, {&first_moments, &second_moments}, scale,
               [=](const std::vector<Tensors>& lists, const Tensors& g, double factor) {
                 const Tensors &p = lists[0], &m = lists[1], &v = lists[2];
                 TensorList list;
                 for (size_t i = 0; i < p.size(); ++i) {
                   list.add({p[i].dtype(),
                             p[i].numel(),
                             {p[i].raw(), g[i].raw(), m[i].raw(), v[i].raw()},
                             {rate / (1 - std::pow(beta1, steps[i])), std::sqrt(1 - std::pow(beta2, steps[i]))}});
                 }
                 adamw_kernel({list.args(), factor, rate, beta1, beta2, eps, decay});
               });
}

void masked_adamw_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& masks, const std::vector<Tensor>& first_moments,
                       const std::vector<Tensor>& second_moments, const std::vector<double>& steps, double rate, double beta1, double beta2,
                       double eps, double decay, const std::optional<Tensor>& scale) {
  const char* op = "maskedAdamwStep";
  const Tensors gradients = checked_gradients(op, parameters, steps);
  check_masks(op, parameters, masks, {&first_moments, &second_moments});
  Tensors owned;
  for (const Tensor& mask : masks) owned.push_back(contiguous(mask.detach()));
  enqueue_step(
      op, parameters, gradients, {&first_moments, &second_moments}, scale,
      [=](const std::vector<Tensors>& lists, const Tensors& g, double factor) {
        const Tensors &p = lists[0], &m = lists[1], &v = lists[2];
        for (size_t i = 0; i < p.size(); ++i) {
          MaskReader mask(op, owned[i], p[i].numel(), m[i].numel(), kListChunk);
          masked_adamw_kernel({p[i].dtype(), mask.entries(), p[i].raw(), g[i].raw(), m[i].raw(), v[i].raw(), factor, rate, beta1, beta2,
                               eps, decay, rate / (1 - std::pow(beta1, steps[i])), std::sqrt(1 - std::pow(beta2, steps[i]))});
        }
      },
      owned);
}

void sgd_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& buffers, const std::vector<double>& steps, double rate,
              double momentum, double dampening, double decay, bool nesterov, const std::optional<Tensor>& scale) {
  const Tensors gradients = checked_gradients("sgdStep", parameters, steps);
  if (momentum != 0 || !buffers.empty()) check_states("sgdStep", "momentum buffers", parameters, buffers);
  enqueue_step("sgdStep", parameters, gradients, {&buffers}, scale,
               [=](const std::vector<Tensors>& lists, const Tensors& g, double factor) {
                 const Tensors &p = lists[0], &b = lists[1];
                 TensorList list;
                 for (size_t i = 0; i < p.size(); ++i) {
                   list.add({p[i].dtype(),
                             p[i].numel(),
                             {p[i].raw(), g[i].raw(), b.empty() ? nullptr : b[i].raw(), nullptr},
                             {steps[i] == 1 ? 1.0 : 0.0, 0}});
                 }
                 sgd_kernel({list.args(), factor, rate, momentum, dampening, decay, nesterov});
               });
}

void lion_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& moments, const std::vector<double>& steps, double rate,
               double beta1, double beta2, double decay, const std::optional<Tensor>& scale) {
  const Tensors gradients = checked_gradients("lionStep", parameters, steps);
  check_states("lionStep", "moments", parameters, moments);
  enqueue_step("lionStep", parameters, gradients, {&moments}, scale,
               [=](const std::vector<Tensors>& lists, const Tensors& g, double factor) {
                 const Tensors &p = lists[0], &m = lists[1];
                 TensorList list;
                 for (size_t i = 0; i < p.size(); ++i) list.add({p[i].dtype(), p[i].numel(), {p[i].raw(), g[i].raw(), m[i].raw()}, {}});
                 lion_kernel({list.args(), factor, rate, beta1, beta2, decay});
               });
}

void adamw_8bit_step(const std::vector<Tensor>& parameters, const std::vector<Tensor>& first_moments,
                     const std::vector<Tensor>& second_moments, const std::vector<Tensor>& first_scales,
                     const std::vector<Tensor>& second_scales, const std::vector<double>& steps, double rate, double beta1, double beta2,
                     double eps, double decay, const std::optional<Tensor>& scale) {
  const char* op = "adamw8bitStep";
  const Tensors gradients = checked_gradients(op, parameters, steps);
  check_bytes(op, "first moments", parameters, first_moments, first_scales);
  check_bytes(op, "second moments", parameters, second_moments, second_scales);
  enqueue_step(
      op, parameters, gradients, {&first_moments, &second_moments, &first_scales, &second_scales}, scale,
      [=](const std::vector<Tensors>& lists, const Tensors& g, double factor) {
        const Tensors &p = lists[0], &m = lists[1], &v = lists[2], &m_scales = lists[3], &v_scales = lists[4];
        TensorList list;
        for (size_t i = 0; i < p.size(); ++i) {
          list.add({p[i].dtype(),
                    p[i].numel(),
                    {p[i].raw(), g[i].raw(), m[i].raw(), v[i].raw(), m_scales[i].raw(), v_scales[i].raw()},
                    {rate / (1 - std::pow(beta1, steps[i])), std::sqrt(1 - std::pow(beta2, steps[i]))}});
        }
        adamw_8bit_kernel({list.args(), factor, rate, beta1, beta2, eps, decay, dynamic_map_values(true), dynamic_map_values(false)});
      });
}

}  // namespace lorikeet
