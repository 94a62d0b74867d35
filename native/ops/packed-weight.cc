#include "ops/packed-weight.h"

#include "core/stream.h"

namespace lorikeet {

Tensor pack_matrix(const Tensor& weight, bool turned, Level level, Panel panel) {
  const int outputs = turned ? 1 : 0, inputs = 1 - outputs;
  Tensor panels = empty({panel_bytes(level, panel, weight.size(outputs), weight.size(inputs), 2)}, DType::u8);
  Tensor source = weight.detach();
  enqueue("packWeight", {source}, {panels}, [=] {
    gemm_pack_kernel.at_level(level)({source.raw(), source.dtype(), source.size(outputs), source.size(inputs), source.strides()[outputs],
                                      source.strides()[inputs], 1.0, panel, 2, panels.raw()});
  });
  return panels;
}

PackedWeight::PackedWeight(const Tensor& weight) : dtype_(weight.dtype()), level_(gemm_level()), panel_(panel_for(weight.dtype())) {
  check_shape(weight.rank() == 2, "packWeight: a weight has two dimensions [outputs, inputs]; got ", to_string(weight.shape()));
  check_argument(is_float(dtype_), "packWeight: this dtype has no packed layout; got ", name_of(dtype_),
                 ", expected f64, f32, bf16 or f16");
  check(weight.device() == Device::cpu, ErrorCode::device, "packWeight: no cuda kernel in this build");
  shape_ = weight.shape();
  forward_ = pack_matrix(weight, false, level_, panel_);
}

int64_t PackedWeight::bytes() const { return forward_.numel() + (backward_.defined() ? backward_.numel() : 0); }

const Tensor& PackedWeight::backward() const {
  if (!backward_.defined()) backward_ = pack_matrix(unpack(), true, level_, panel_);
  return backward_;
}

Tensor PackedWeight::unpack() const {
  Tensor weight = empty(shape_, dtype_);
  enqueue("unpackWeight", {forward_}, {weight}, [=, level = level_, panel = panel_, panels = forward_] {
    gemm_unpack_kernel.at_level(level)({panels.raw(), panel, weight.size(0), weight.size(1), weight.raw(), weight.dtype()});
  });
  return weight;
}

PackedWeightPtr pack_weight(const Tensor& weight) { return std::make_shared<PackedWeight>(weight); }

Tensor unpack_weight(const PackedWeightPtr& weight) { return weight->unpack(); }

}  // namespace lorikeet
