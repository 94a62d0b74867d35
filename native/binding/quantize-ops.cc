#include "binding/bind.h"
#include "binding/packed-weight-handle.h"
#include "ops/quantize.h"

// Floats into codes of few bits, and packed weights that keep such codes.

namespace lorikeet {

inline constexpr const char* kQuantizationNames[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "int8", "nf4", "sign"};
template <>
struct EnumStrings<Quantization> {
  static constexpr const char* type = "string";
  static constexpr auto& names = kQuantizationNames;
};

static PackedWeightPtr pack_quantized(Quantization format, const Shape& shape, int64_t block, const Tensor& codes, const Tensor& scales,
                                      const std::optional<Tensor>& scale_codes, const std::optional<Tensor>& scale_offset, DType dtype) {
  return std::make_shared<PackedWeight>(quantized_weight(format, shape, block, codes, scales, scale_codes, scale_offset), dtype);
}

static PackedWeightPtr pack_gguf(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                                 int64_t interleaved_heads, DType dtype) {
  return std::make_shared<PackedWeight>(gguf_weight(path, file_bytes, offset, type, shape, interleaved_heads), dtype);
}

static PackedWeightPtr share_packed(const PackedWeightPtr& weight) { return weight; }

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(quantize_nf4, "quantizeNf4")
  OP(quantize_scales, "quantizeScales")
  OP(quantize_int8, "quantizeInt8")
  OP(pack_quantized, "packQuantized")
  OP(pack_gguf, "packGguf")
  OP(share_packed, "sharePacked")
  OP(unpack_rows, "unpackRows")
  OP(embedding_rows, "embeddingRows")
}

static BindingPart part(bind);

}  // namespace lorikeet
