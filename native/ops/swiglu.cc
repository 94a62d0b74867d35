#include "ops/swiglu.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

Tensor gated(const Tensor& gate, const Tensor& up) {
  Tensor y = empty_like(gate);
  enqueue("swiGlu", {gate, up}, {y}, [gate = gate.detach(), up = up.detach(), y = y.detach()] {
    swiglu_fwd_kernel({gate.dtype(), gate.raw(), up.raw(), nullptr, y.raw(), nullptr, nullptr, gate.numel()});
  });
  return y;
}

}  // namespace

Tensor swiglu(const Tensor& input_gate, const Tensor& input_up) {
  check_argument(is_float(input_gate.dtype()) && input_gate.dtype() == input_up.dtype(),
                 "swiGlu: needs two floating tensors of one dtype; got ", name_of(input_gate.dtype()), " and ", name_of(input_up.dtype()));
  check_shape(input_gate.shape() == input_up.shape(), "swiGlu: shapes differ; got gate ", to_string(input_gate.shape()), " and up ",
              to_string(input_up.shape()));
  check(input_gate.device() == Device::cpu && input_up.device() == Device::cpu, ErrorCode::device, "swiGlu: no cuda kernel in this build");
  Tensor gate = contiguous(input_gate), up = contiguous(input_up);
  Tensor y = gated(gate, up);
  if (needs_record({&gate, &up})) {
    Saved saved_gate(gate), saved_up(requires_grad(gate) ? up : Tensor());
    record("swiGlu", {gate, up}, {y}, [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
      const Tensor &gate = saved_gate.get("swiGlu"), &up = saved_up.get("swiGlu");
      Tensor dy = contiguous(gradients[0]);
      Tensor dgate = wanted[0] ? empty_like(gate) : Tensor(), dup = wanted[1] ? empty_like(gate) : Tensor();
      enqueue("swiGlu backward", {gate, up, dy}, {dgate, dup}, [=] {
        auto raw = [](const Tensor& x) -> void* { return x.defined() ? x.raw() : nullptr; };
        swiglu_bwd_kernel({gate.dtype(), gate.raw(), raw(up), dy.raw(), nullptr, raw(dgate), raw(dup), gate.numel()});
      });
      return {dgate, dup};
    });
    if (requires_grad(gate)) offer_recompute(y, [=] { return gated(saved_gate.get("swiGlu"), saved_up.get("swiGlu")); });
  }
  return y;
}

}  // namespace lorikeet
