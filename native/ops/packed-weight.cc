#include "ops/packed-weight.h"

#include "core/mapped-file.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/index-select.h"
#include "ops/int8-panels.h"
#include "ops/quantize.h"

namespace lorikeet {

void PackedOperand::append_to(std::vector<Tensor>& inputs) const {
  if (panels.defined()) inputs.push_back(panels);
  if (scales.defined()) inputs.push_back(scales);
  if (rows.defined()) inputs.push_back(rows);
  if (!quantized) return;
  for (const Tensor& x : quantized->tensors()) inputs.push_back(x);
}

RightOperand PackedOperand::pointers(Panel panel) const {
  RightOperand right{codes ? Panel::int8 : panel};
  if (panels.defined()) right.panels = panels.raw();
  if (quantized) right.quantized = quantized->matrix();
  right.turned = turned;
  right.retile = retile;
  if (scales.defined()) right.scales = scales.data<float>();
  if (rows.defined()) right.stored = {rows.raw(), rows.dtype(), rows.size(0), rows.size(1)};
  return right;
}

namespace {

/// int8 panels of codes [N, K] or, `turned`, of their transpose.
Tensor pack_codes(const Tensor& codes, bool turned, Level level) {
  const int outputs = turned ? 1 : 0, inputs = 1 - outputs;
  Tensor panels = empty({int8_panel_bytes(level, codes.size(outputs), codes.size(inputs))}, DType::u8);
  enqueue("packWeight", {codes}, {panels}, [=] {
    int8_pack_kernel.at_level(level)({reinterpret_cast<const int8_t*>(codes.data<uint8_t>()), codes.size(outputs), codes.size(inputs),
                                      codes.strides()[outputs], codes.strides()[inputs], panels.raw()});
  });
  return panels;
}

/// The codes [N, K] of panels for y = x Wᵀ.
Tensor unpack_codes(const Tensor& panels, const Shape& shape, Level level) {
  Tensor codes = empty(shape, DType::u8);
  enqueue("unpackWeight", {panels}, {codes}, [=] {
    int8_unpack_kernel.at_level(level)({panels.raw(), codes.size(0), codes.size(1), reinterpret_cast<int8_t*>(codes.data<uint8_t>())});
  });
  return codes;
}

}  // namespace

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
  if (layout == WeightLayout::native) {
    rows_ = contiguous(weight.detach());
    version_ = rows_.storage()->version;
  } else {
    forward_ = pack_matrix(weight, false, level_, panel_);
  }
}

PackedWeight::PackedWeight(QuantizedWeightPtr weight, DType dtype, WeightLayout layout)
    : shape_(weight->shape),
      dtype_(dtype),
      level_(gemm_level()),
      panel_(layout == WeightLayout::int8 ? Panel::int8 : panel_for(dtype)),
      layout_(layout) {
  check_argument(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16,
                 "packQuantized: values of blocks are computed in f32, bf16 or f16; got ", name_of(dtype));
  if (layout != WeightLayout::int8) {
    quantized_ = std::move(weight);
    return;
  }
  forward_ = pack_codes(weight->codes, false, level_);
  scales_ = weight->scales;
}

int64_t PackedWeight::bytes() const {
  if (quantized_) return quantized_->bytes();
  if (rows_.defined()) return rows_.storage()->read_only() ? 0 : rows_.numel() * size_of(dtype_);
  return forward_.numel() + (backward_.defined() ? backward_.numel() : 0) + (scales_.defined() ? 4 * outputs() : 0);
}

int64_t PackedWeight::mapped_bytes() const { return rows_.defined() && rows_.storage()->read_only() ? rows_.numel() * size_of(dtype_) : 0; }

const Tensor& PackedWeight::rows() const {
  check_argument(!rows_.defined() || rows_.storage()->version == version_,
                 "packWeight: the tensor whose memory a weight of layout native shares was changed in place; got version ",
                 rows_.defined() ? rows_.storage()->version : 0, ", expected ", version_);
  if (rows_.defined() && rows_.storage()->read_only()) rows_.storage()->file()->check_unchanged();
  return rows_;
}

PackedOperand PackedWeight::forward() const {
  return {forward_, quantized_, false, false, scales_, rows(), layout_ == WeightLayout::codes};
}

PackedOperand PackedWeight::backward() const {
  if (layout_ == WeightLayout::native) return {Tensor(), nullptr, true, false, Tensor(), rows()};
  if (layout_ == WeightLayout::retile) return {forward_, nullptr, false, true};
  if (!quantized_ && !backward_.defined()) {
    backward_ = panel_ == Panel::int8 ? pack_codes(unpack_codes(forward_, shape_, level_), true, level_)
                                      : pack_matrix(unpack(), true, level_, panel_);
  }
  return {backward_, quantized_, true, false, scales_};
}

Tensor PackedWeight::unpack() const {
  if (quantized_) return dequantize_rows(quantized_, 0, outputs(), dtype_);
  if (rows_.defined()) return clone(rows());
  if (panel_ == Panel::int8) {
    const Tensor codes = unpack_codes(forward_, shape_, level_);
    return dequantize_rows(quantized_weight(Quantization::int8, shape_, 0, codes, scales_, std::nullopt, std::nullopt), 0, outputs(),
                           dtype_);
  }
  Tensor weight = empty(shape_, dtype_);
  enqueue("unpackWeight", {forward_}, {weight}, [=, level = level_, panel = panel_, panels = forward_] {
    gemm_unpack_kernel.at_level(level)({panels.raw(), panel, weight.size(0), weight.size(1), weight.raw(), weight.dtype()});
  });
  return weight;
}

Tensor PackedWeight::rows_at(const Tensor& ids) const {
  if (quantized_) return dequantize_rows_at(quantized_, ids, dtype_);
  if (rows_.defined()) return embedding(rows(), ids);
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

PackedWeightPtr pack_weight(const Tensor& weight, const std::string& layout) {
  for (WeightLayout known : {WeightLayout::retile, WeightLayout::dual, WeightLayout::native}) {
    if (layout == name_of(known)) return std::make_shared<PackedWeight>(weight, known);
  }
  fail(ErrorCode::invalid_argument, "packWeight: unknown layout; got \"", layout, "\", expected retile, dual or native");
}

namespace {

PackedWeightPtr pack_int8_values(const Tensor& weight, DType dtype) {
  check_shape(weight.rank() == 2, "packInt8: a weight has two dimensions [outputs, inputs]; got ", to_string(weight.shape()));
  check_argument(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16,
                 "packInt8: weights of this dtype are not multiplied in 8 bits; got ", name_of(dtype), ", expected f32, bf16 or f16");
  const std::vector<Tensor> parts = quantize_int8(weight);
  return std::make_shared<PackedWeight>(
      quantized_weight(Quantization::int8, weight.shape(), 0, parts[0], parts[1], std::nullopt, std::nullopt), dtype, WeightLayout::int8);
}

}  // namespace

PackedWeightPtr pack_int8(const PackedWeightPtr& weight) {
  const QuantizedWeightPtr& blocks = weight->quantized();
  if (blocks && is_gguf(blocks->format)) return std::make_shared<PackedWeight>(blocks, weight->dtype(), WeightLayout::codes);
  if (blocks && blocks->format == Quantization::int8) return std::make_shared<PackedWeight>(blocks, weight->dtype(), WeightLayout::int8);
  if (weight->layout() == WeightLayout::int8) return weight;
  const Tensor values = blocks ? dequantize_rows(blocks, 0, weight->outputs(), DType::f32) : weight->unpack();
  return pack_int8_values(values, weight->dtype());
}

PackedWeightPtr pack_int8(const Tensor& weight) { return pack_int8_values(weight, weight.dtype()); }

Tensor unpack_weight(const PackedWeightPtr& weight) { return weight->unpack(); }

Tensor unpack_rows(const PackedWeightPtr& weight, int64_t first, int64_t count) {
  check_argument(weight->quantized() != nullptr, "unpackRows: needs a weight in blocks; got layout ", name_of(weight->layout()));
  return dequantize_rows(weight->quantized(), first, count, weight->dtype());
}

Tensor embedding_rows(const PackedWeightPtr& weight, const Tensor& ids) { return weight->rows_at(ids); }

}  // namespace lorikeet
