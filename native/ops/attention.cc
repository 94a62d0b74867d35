#include "ops/attention.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

constexpr const char* kName = "attention";

/// x itself when its last dimension is contiguous, else a copy.
Tensor with_plain_rows(const Tensor& x) { return x.strides()[3] == 1 || x.size(3) <= 1 ? x : contiguous(x); }

void check_operands(const Tensor& q, const Tensor& k, const Tensor& v) {
  check_shape(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, kName, ": operands must have four dimensions; got q ", to_string(q.shape()),
              ", k ", to_string(k.shape()), " and v ", to_string(v.shape()), ", expected q [B, T, H, K] and k, v [B, S, G, K]");
  check_shape(k.shape() == v.shape() && q.size(0) == k.size(0) && q.size(3) == k.size(3), kName, ": shapes do not fit; got q ",
              to_string(q.shape()), ", k ", to_string(k.shape()), " and v ", to_string(v.shape()),
              ", expected q [B, T, H, K] and k, v [B, S, G, K]");
  check_shape(k.size(2) > 0 && q.size(2) % k.size(2) == 0, kName, ": query heads must be a multiple of the key heads; got ", q.size(2),
              " and ", k.size(2));
  check_argument(is_float(q.dtype()) && q.dtype() == k.dtype() && q.dtype() == v.dtype(), kName,
                 ": operands must have one floating dtype; got q ", name_of(q.dtype()), ", k ", name_of(k.dtype()), " and v ",
                 name_of(v.dtype()));
  for (const Tensor* x : {&q, &k, &v}) check(x->device() == Device::cpu, ErrorCode::device, kName, ": no cuda kernel in this build");
  check_shape(k.size(1) < INT32_MAX, kName, ": too many keys; got ", k.size(1));
}

void check_mask_part(const std::optional<Tensor>& x, const char* what, DType dtype, const Shape& shape) {
  if (!x) return;
  check_argument(x->dtype() == dtype, kName, ": ", what, " has the wrong dtype; got ", name_of(x->dtype()), ", expected ", name_of(dtype));
  check_shape(x->shape() == shape, kName, ": ", what, " has the wrong shape; got ", to_string(x->shape()), ", expected ", to_string(shape));
}

void check_mask(const Tensor& q, const Tensor& k, const AttentionMask& mask) {
  int64_t batch = q.size(0), keys = k.size(1);
  check_argument(mask.window >= 0, kName, ": the window must not be negative; got ", mask.window);
  check_mask_part(mask.key_lengths, "keyLengths", DType::i64, Shape{batch});
  check_mask_part(mask.query_offsets, "queryOffset", DType::i64, Shape{batch});
  check_mask_part(mask.key_mask, "keyMask", DType::bool_, Shape{batch, keys});
  check_mask_part(mask.documents, "documents", DType::i32, Shape{batch, keys});
  check_shape(!mask.documents || q.size(1) == keys, kName, ": documents need as many queries as keys; got ", q.size(1), " and ", keys);
}

/// The mask's tensors, contiguous; undefined where absent.
struct MaskTensors {
  Tensor key_lengths, query_offsets, key_mask, documents;

  explicit MaskTensors(const AttentionMask& mask)
      : key_lengths(plain(mask.key_lengths)),
        query_offsets(plain(mask.query_offsets)),
        key_mask(plain(mask.key_mask)),
        documents(plain(mask.documents)) {}
  static Tensor plain(const std::optional<Tensor>& x) { return x ? contiguous(*x).detach() : Tensor(); }

  /// Sets the pointers; on the engine thread. Throws for a length that is not one.
  void put(AttentionArgs& args) const {
    args.key_lengths = key_lengths.defined() ? key_lengths.data<int64_t>() : nullptr;
    args.query_offsets = query_offsets.defined() ? query_offsets.data<int64_t>() : nullptr;
    args.key_mask = key_mask.defined() ? key_mask.data<uint8_t>() : nullptr;
    args.documents = documents.defined() ? documents.data<int32_t>() : nullptr;
    for (int64_t b = 0; args.key_lengths != nullptr && b < args.batch; ++b) {
      check_argument(args.key_lengths[b] >= 0 && args.key_lengths[b] <= args.keys, kName, ": a key length is out of range; got ",
                     args.key_lengths[b], " in row ", b, ", expected 0 to ", args.keys);
    }
  }
};

void put_strides(const Tensor& x, int64_t (&strides)[3]) {
  for (int i = 0; i < 3; ++i) strides[i] = x.strides()[i];
}

AttentionArgs sizes_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale, double softcap, const AttentionMask& mask) {
  AttentionArgs args{};
  args.dtype = q.dtype();
  args.batch = q.size(0);
  args.queries = q.size(1);
  args.keys = k.size(1);
  args.heads = q.size(2);
  args.groups = k.size(2);
  args.width = q.size(3);
  args.scale = scale;
  args.softcap = softcap;
  args.causal = mask.causal;
  args.window = mask.window;
  put_strides(q, args.q_strides);
  put_strides(k, args.k_strides);
  put_strides(v, args.v_strides);
  return args;
}

Tensors gradients_of(AttentionArgs args, const MaskTensors& mask, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                     const Tensor& lse, const Tensor& dout, const Wanted& wanted) {
  Tensor dq = wanted[0] ? empty(q.shape(), q.dtype()) : Tensor();
  Tensor dk = wanted[1] ? empty(k.shape(), k.dtype()) : Tensor();
  Tensor dv = wanted[2] ? empty(v.shape(), v.dtype()) : Tensor();
  enqueue("attention backward", {q, k, v, out, lse, dout, mask.key_lengths, mask.query_offsets, mask.key_mask, mask.documents},
          {dq, dk, dv}, [=]() mutable {
            args.q = q.raw();
            args.k = k.raw();
            args.v = v.raw();
            args.out = out.defined() ? out.raw() : nullptr;
            args.lse = lse.raw();
            args.dout = dout.raw();
            args.dq = dq.defined() ? dq.raw() : nullptr;
            args.dk = dk.defined() ? dk.raw() : nullptr;
            args.dv = dv.defined() ? dv.raw() : nullptr;
            mask.put(args);
            attention_bwd_kernel(args);
          });
  return {dq, dk, dv};
}

}  // namespace

Tensor attention(const Tensor& input_q, const Tensor& input_k, const Tensor& input_v, double scale, double softcap,
                 const AttentionMask& mask) {
  check_operands(input_q, input_k, input_v);
  check_mask(input_q, input_k, mask);
  check_argument(softcap >= 0, kName, ": softcap must not be negative; got ", softcap);
  Tensor q = with_plain_rows(input_q), k = with_plain_rows(input_k), v = with_plain_rows(input_v);
  bool recorded = needs_record({&q, &k, &v});
  MaskTensors masks(mask);
  AttentionArgs args = sizes_of(q, k, v, scale, softcap, mask);
  Tensor out = empty(q.shape(), q.dtype());
  Tensor lse = recorded ? empty(Shape{args.batch, args.heads, args.queries}, q.dtype() == DType::f64 ? DType::f64 : DType::f32) : Tensor();
  enqueue(kName, {q, k, v, masks.key_lengths, masks.query_offsets, masks.key_mask, masks.documents}, {out, lse},
          [=, q = q.detach(), k = k.detach(), v = v.detach(), out = out.detach()]() mutable {
            args.q = q.raw();
            args.k = k.raw();
            args.v = v.raw();
            args.out = out.raw();
            args.lse = lse.defined() ? lse.raw() : nullptr;
            masks.put(args);
            attention_fwd_kernel(args);
          });
  if (recorded) {
    bool scores_wanted = requires_grad(q) || requires_grad(k);
    Saved saved_q(q), saved_k(k), saved_v(v), saved_out(scores_wanted ? out : Tensor());
    record(kName, {q, k, v}, {out}, [=](const Tensors& gradients, const Wanted& wanted) -> Tensors {
      return gradients_of(args, masks, saved_q.get(kName), saved_k.get(kName), saved_v.get(kName), saved_out.get(kName), lse,
                          contiguous(gradients[0]), wanted);
    });
  }
  return out;
}

Tensor attention_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale, double softcap, bool causal, int64_t window,
                    const std::optional<Tensor>& key_lengths, const std::optional<Tensor>& query_offsets,
                    const std::optional<Tensor>& key_mask, const std::optional<Tensor>& documents) {
  return attention(q, k, v, scale, softcap, AttentionMask{causal, window, key_lengths, query_offsets, key_mask, documents});
}

}  // namespace lorikeet
