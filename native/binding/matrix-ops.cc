#include "binding/bind.h"
#include "binding/packed-weight-handle.h"
#include "ops/cross-entropy.h"
#include "ops/linear.h"
#include "ops/low-rank-linear.h"
#include "ops/matmul.h"
#include "ops/sgmv.h"

// Matrix products, the loss on top of one, and what crosses the boundary for them: packed weights, lists of low-rank adapters, row
// segments.

namespace lorikeet {

/// A packed weight or a dense tensor.
template <>
struct Convert<BaseWeight> {
  static constexpr const char* type = "PackedWeightHandle | TensorHandle";
  static BaseWeight from(const Napi::Value& value, Place place) {
    if (PackedWeightHandle::find(value) != nullptr) return {Convert<PackedWeightPtr>::from(value, place), Tensor()};
    return {nullptr, Convert<Tensor>::from(value, place)};
  }
};

template <>
struct Convert<LowRankAdapters> {
  static constexpr const char* type =
      "readonly { a: TensorHandle; b: TensorHandle; bias: TensorHandle | undefined; scale: number; dropout: number; seed: number | bigint; "
      "stream: number | bigint }[]";
  static LowRankAdapters from(const Napi::Value& value, Place place) {
    if (!value.IsArray()) fail_argument(place, "must be an array of adapters");
    const auto list = value.As<Napi::Array>();
    LowRankAdapters adapters;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const Napi::Value item = list.Get(i);
      if (!item.IsObject()) fail_argument(place, "must hold objects; got another value at ", i);
      const auto adapter = item.As<Napi::Object>();
      adapters.a.push_back(Convert<Tensor>::from(adapter.Get("a"), place));
      adapters.b.push_back(Convert<Tensor>::from(adapter.Get("b"), place));
      adapters.biases.push_back(Convert<std::optional<Tensor>>::from(adapter.Get("bias"), place).value_or(Tensor()));
      adapters.scales.push_back(Convert<double>::from(adapter.Get("scale"), place));
      adapters.dropouts.push_back(Convert<double>::from(adapter.Get("dropout"), place));
      adapters.seeds.push_back(Convert<uint64_t>::from(adapter.Get("seed"), place));
      adapters.streams.push_back(Convert<uint64_t>::from(adapter.Get("stream"), place));
    }
    return adapters;
  }
};

template <>
struct Convert<RowSegment> {
  static constexpr const char* type = "{ readonly start: number; readonly end: number; readonly adapters: readonly number[] }";
  static RowSegment from(const Napi::Value& value, Place place) {
    if (!value.IsObject()) fail_argument(place, "must hold segments { start, end, adapters }");
    const auto segment = value.As<Napi::Object>();
    return {Convert<int64_t>::from(segment.Get("start"), place), Convert<int64_t>::from(segment.Get("end"), place),
            Convert<std::vector<int64_t>>::from(segment.Get("adapters"), place)};
  }
};

template <>
struct Convert<std::vector<RowSegment>> {
  static constexpr const char* type = "readonly { readonly start: number; readonly end: number; readonly adapters: readonly number[] }[]";
  static std::vector<RowSegment> from(const Napi::Value& value, Place place) {
    if (!value.IsArray()) fail_argument(place, "must be an array of segments");
    const auto list = value.As<Napi::Array>();
    std::vector<RowSegment> segments;
    for (uint32_t i = 0; i < list.Length(); ++i) segments.push_back(Convert<RowSegment>::from(list.Get(i), place));
    return segments;
  }
};

template <>
struct Convert<LinearLayer> {
  static constexpr const char* type =
      "{ readonly weight: PackedWeightHandle | TensorHandle; readonly bias: TensorHandle | undefined; readonly adapters: readonly { a: "
      "TensorHandle; b: TensorHandle; bias: TensorHandle | undefined; scale: number; dropout: number; seed: number | bigint; stream: "
      "number "
      "| bigint }[]; readonly segments: readonly { readonly start: number; readonly end: number; readonly adapters: readonly number[] }[] "
      "| "
      "undefined }";
  static LinearLayer from(const Napi::Value& value, Place place) {
    if (!value.IsObject()) fail_argument(place, "must hold layers { weight, bias, adapters, segments }");
    const auto layer = value.As<Napi::Object>();
    return {Convert<BaseWeight>::from(layer.Get("weight"), place),
            Convert<std::optional<Tensor>>::from(layer.Get("bias"), place).value_or(Tensor()),
            Convert<LowRankAdapters>::from(layer.Get("adapters"), place),
            Convert<std::optional<std::vector<RowSegment>>>::from(layer.Get("segments"), place)};
  }
};

static PackedWeightPtr pack_int8_op(const BaseWeight& weight) { return weight.packed ? pack_int8(weight.packed) : pack_int8(weight.dense); }

static Tensor linear_op(const Tensor& x, const BaseWeight& weight, const std::optional<Tensor>& bias) {
  return weight.packed ? linear(x, weight.packed, bias.value_or(Tensor())) : linear_dense(x, weight.dense, bias.value_or(Tensor()));
}

static Tensor low_rank_linear_op(const Tensor& x, const BaseWeight& weight, const std::optional<Tensor>& bias,
                                 const LowRankAdapters& adapters, const std::optional<std::vector<RowSegment>>& segments) {
  return low_rank_linear(x, weight, bias.value_or(Tensor()), adapters, segments);
}

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  PackedWeightHandle::define(env);
  OP(matmul, "matmul")
  OP(pack_weight, "packWeight")
  OP(pack_int8_op, "packInt8")
  OP(unpack_weight, "unpackWeight")
  OP(linear_op, "linear")
  OP(low_rank_linear_op, "lowRankLinear")
  OP(low_rank_linears, "lowRankLinears")
  OP(sgmv, "sgmv")
  OP(cross_entropy, "crossEntropy")
  OP(logits_cross_entropy, "logitsCrossEntropy")
}

static BindingPart part(bind);

}  // namespace lorikeet
