#include "ops/quantized-weight.h"

#include <algorithm>
#include <cstring>

#include "algo/gguf-blocks.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/index-select.h"
#include "ops/row-groups.h"
#include "ops/stored-tensor.h"

namespace lorikeet {
namespace {

constexpr struct {
  uint32_t type;
  Quantization format;
} kGgufFormats[] = {{2, Quantization::q4_0}, {3, Quantization::q4_1},  {6, Quantization::q5_0},  {7, Quantization::q5_1},
                    {8, Quantization::q8_0}, {12, Quantization::q4_k}, {13, Quantization::q5_k}, {14, Quantization::q6_k}};

int64_t blocks_of(int64_t count, int64_t block) { return (count + block - 1) / block; }

void check_size(const char* what, const Tensor& x, DType dtype, int64_t count) {
  check_argument(x.dtype() == dtype && x.numel() == count, "quantizedWeight: ", what, " do not fit; got ", x.numel(), " of ",
                 name_of(x.dtype()), ", expected ", count, " of ", name_of(dtype));
}

}  // namespace

std::vector<Tensor> QuantizedWeight::tensors() const {
  std::vector<Tensor> present;
  for (const Tensor& x : {codes, scales, scale_codes, scale_offset}) {
    if (x.defined()) present.push_back(x);
  }
  return present;
}

int64_t QuantizedWeight::bytes() const {
  int64_t total = 0;
  for (const Tensor& x : tensors()) total += x.numel() * size_of(x.dtype());
  return total;
}

QuantizedMatrix QuantizedWeight::matrix() const {
  const bool whole_bytes = format != Quantization::nf4 && (format != Quantization::sign || shape[1] % 8 == 0);
  return {format,
          shape[0],
          shape[1],
          codes.data<uint8_t>(),
          whole_bytes && shape[0] > 0 ? codes.numel() / shape[0] : 0,
          scales.defined() ? scales.data<float>() : nullptr,
          scale_codes.defined() ? scale_codes.data<uint8_t>() : nullptr,
          scale_offset.defined() ? scale_offset.data<float>() : nullptr,
          block,
          grouped_rows};
}

QuantizedWeightPtr quantized_weight(Quantization format, const Shape& shape, int64_t block, const Tensor& codes, const Tensor& scales,
                                    const std::optional<Tensor>& scale_codes, const std::optional<Tensor>& scale_offset) {
  check_shape(shape.rank() == 2, "quantizedWeight: a weight has two dimensions [outputs, inputs]; got ", to_string(shape));
  check_argument(!is_gguf(format), "quantizedWeight: is made from int8, nf4 or sign codes; got ", name_of(format));
  check_argument(scale_codes.has_value() == scale_offset.has_value(), "quantizedWeight: scale codes and their offset come together");
  const int64_t count = shape[0] * shape[1];
  auto plain = [](const Tensor& x) { return contiguous(x.detach()); };
  QuantizedWeight weight{format, shape, block, plain(codes), plain(scales), Tensor(), Tensor()};
  if (format == Quantization::int8) {
    check_size("codes", codes, DType::u8, count);
    check_size("scales", scales, DType::f32, shape[0]);
  } else if (format == Quantization::sign) {
    check_size("codes", codes, DType::u8, blocks_of(count, 8));
    check_size("values", scales, DType::f32, 2);
  } else {
    check_argument(block >= kQuantizedGroup && block % kQuantizedGroup == 0, "quantizedWeight: a block is a multiple of ", kQuantizedGroup,
                   " values; got ", block);
    const int64_t blocks = blocks_of(count, block);
    check_size("codes", codes, DType::u8, (count + 1) / 2);
    check_size("scales", scales, DType::f32, scale_codes ? blocks_of(blocks, kNestedBlock) : blocks);
    if (scale_codes) {
      check_size("scale codes", *scale_codes, DType::u8, blocks);
      check_size("scale offsets", *scale_offset, DType::f32, 1);
      weight.scale_codes = plain(*scale_codes);
      weight.scale_offset = plain(*scale_offset);
    }
  }
  return std::make_shared<const QuantizedWeight>(std::move(weight));
}

QuantizedWeightPtr gguf_weight(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                               int64_t interleaved_heads) {
  check_shape(shape.rank() == 2, "ggufWeight: a weight has two dimensions [outputs, inputs]; got ", to_string(shape));
  const auto* found =
      std::find_if(std::begin(kGgufFormats), std::end(kGgufFormats), [type](const auto& known) { return known.type == type; });
  check(found != std::end(kGgufFormats), ErrorCode::io, path, ": ggufWeight: type ", type, " is not one of blocks");
  Tensor codes = gguf_blocks(path, file_bytes, offset, type, shape, interleaved_heads);
  const int64_t grouped = grouped_rows_of(found->format, shape[0]);
  if (grouped > 0)
    enqueue("groupRows", {codes}, {codes},
            [=, format = found->format] { group_rows(format, grouped, codes.size(1), codes.data<uint8_t>()); });
  return std::make_shared<const QuantizedWeight>(QuantizedWeight{found->format, shape, 0, codes, Tensor(), Tensor(), Tensor(), grouped});
}

Tensor dequantize_rows(const QuantizedWeightPtr& weight, int64_t first, int64_t count, DType dtype) {
  check_argument(is_float(dtype), "dequantize: needs a floating dtype; got ", name_of(dtype));
  check_argument(first >= 0 && count >= 0 && first <= weight->shape[0] - count, "dequantize: rows ", first, " to ", first + count,
                 " are not in a weight of ", weight->shape[0]);
  Tensor y = empty({count, weight->shape[1]}, dtype);
  enqueue("dequantize", weight->tensors(), {y}, [=] { dequantize_kernel({weight->matrix(), nullptr, first, count, y.raw(), dtype}); });
  return y;
}

Tensor dequantize_rows_at(const QuantizedWeightPtr& weight, const Tensor& ids, DType dtype) {
  check_index_dtype("embedding", ids);
  Shape shape = ids.shape();
  shape.push_back(weight->shape[1]);
  Tensor index = cast(contiguous(ids.detach()), DType::i64), y = empty(shape, dtype);
  std::vector<Tensor> inputs = weight->tensors();
  inputs.push_back(index);
  enqueue("embedding", std::move(inputs), {y}, [=, rows = weight->shape[0], count = ids.numel()] {
    const int64_t* places = index.data<int64_t>();
    check_ids("embedding", places, count, rows);
    dequantize_kernel({weight->matrix(), places, 0, count, y.raw(), dtype});
  });
  return y;
}

}  // namespace lorikeet
