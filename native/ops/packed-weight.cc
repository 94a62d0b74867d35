#include "ops/packed-weight.h"

#include "core/stream.h"
#include "ops/copy.h"
#include "ops/index-select.h"

namespace lorikeet {

void PackedOperand::append_to(std::vector<Tensor>& inputs) const {
  if (panels.defined()) inputs.push_back(panels);
  if (!quantized) return;
  for (const Tensor& x : quantized->tensors()) inputs.push_back(x);
}

RightOperand PackedOperand::pointers(Panel panel) const {
  RightOperand right{panel};
  if (panels.defined()) right.panels = panels.raw();
  if (quantized) right.quantized = quantized->matrix();
  right.turned = turned;
  right.retile = retile;
  return right;
}

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

PackedWeight::PackedWeight(const Tensor& weight, WeightLayout layout)
    : dtype_(weight.dtype()), level_(gemm_level()), panel_(panel_for(weight.dtype())), layout_(layout) {
  check_shape(weight.rank() == 2, "packWeight: a weight has two dimensions [outputs, inputs]; got ", to_string(weight.shape()));
  check_argument(is_float(dtype_), "packWeight: this dtype has no packed layout; got ", name_of(dtype_),
                 ", expected f64, f32, bf16 or f16");
  check(weight.device() == Device::cpu, ErrorCode::device, "packWeight: no cuda kernel in this build");
  shape_ = weight.shape();
  forward_ = pack_matrix(weight, false, level_, panel_);
}

PackedWeight::PackedWeight(QuantizedWeightPtr weight, DType dtype)
    : shape_(weight->shape),
      dtype_(dtype),
      level_(gemm_level()),
      panel_(panel_for(dtype)),
      layout_(WeightLayout::blocks),
      quantized_(std::move(weight)) {
  check_argument(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16,
                 "packWeight: values of blocks are computed in f32, bf16 or f16; got ", name_of(dtype));
}

int64_t PackedWeight::bytes() const {
  if (quantized_) return quantized_->bytes();
  return forward_.numel() + (backward_.defined() ? backward_.numel() : 0);
}

PackedOperand PackedWeight::forward() const { return {forward_, quantized_, false}; }

PackedOperand PackedWeight::backward() const {
  if (layout_ == WeightLayout::retile) return {forward_, nullptr, false, true};
  if (!quantized_ && !backward_.defined()) backward_ = pack_matrix(unpack(), true, level_, panel_);
  return {backward_, quantized_, true};
}

Tensor PackedWeight::unpack() const {
  if (quantized_) return dequantize_rows(quantized_, 0, outputs(), dtype_);
  Tensor weight = empty(shape_, dtype_);
  enqueue("unpackWeight", {forward_}, {weight}, [=, level = level_, panel = panel_, panels = forward_] {
    gemm_unpack_kernel.at_level(level)({panels.raw(), panel, weight.size(0), weight.size(1), weight.raw(), weight.dtype()});
  });
  return weight;
}

Tensor PackedWeight::rows_at(const Tensor& ids) const {
  if (quantized_) return dequantize_rows_at(quantized_, ids, dtype_);
  check_index_dtype("embedding", ids);
  Shape shape = ids.shape();
  shape.push_back(inputs());
  Tensor index = cast(contiguous(ids.detach()), DType::i64), y = empty(shape, dtype_);
  enqueue("embedding", {forward_, index}, {y}, [=, level = level_, panel = panel_, panels = forward_, rows = outputs(), k = inputs()] {
    const int64_t* places = index.data<int64_t>();
    check_ids("embedding", places, index.numel(), rows);
    gemm_unpack_rows_kernel.at_level(level)({panels.raw(), panel, places, index.numel(), k, y.raw(), y.dtype()});
  });
  return y;
}

PackedWeightPtr pack_weight(const Tensor& weight, bool retile) {
  return std::make_shared<PackedWeight>(weight, retile ? WeightLayout::retile : WeightLayout::dual);
}

Tensor unpack_weight(const PackedWeightPtr& weight) { return weight->unpack(); }

Tensor unpack_rows(const PackedWeightPtr& weight, int64_t first, int64_t count) {
  check_argument(weight->quantized() != nullptr, "unpackRows: needs a quantised weight; got ", name_of(weight->dtype()));
  return dequantize_rows(weight->quantized(), first, count, weight->dtype());
}

Tensor embedding_rows(const PackedWeightPtr& weight, const Tensor& ids) { return weight->rows_at(ids); }

}  // namespace lorikeet
