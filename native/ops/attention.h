#pragma once

#include <optional>

#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// Which keys a query sees, beside the shapes.
struct AttentionMask {
  bool causal = false;
  int64_t window = 0;                   // 0 = no limit
  std::optional<Tensor> key_lengths;    // i64 [B]: keys from there on are not seen
  std::optional<Tensor> query_offsets;  // i64 [B]: position of the first query among the keys; S - T without it
  std::optional<Tensor> key_mask;       // bool [B, S]: false = not seen
  std::optional<Tensor> documents;      // i32 [B, S] (S = T): queries see keys of their own document
};

/// out[b, t, h] = Σ_s softmax_s(f(scale · q[b, t, h] · k[b, s, h / (H / G)])) v[b, s, h / (H / G)] with q [B, T, H, K], k and v [B, S, G,
/// K], H a multiple of G, K up to 256; f(x) = softcap · tanh(x / softcap), or x when softcap is 0. A query at position p sees key s when s
/// <= p (causal), and |p - s| < window, and the masks allow it; a query that sees nothing gives zeros. Views with a contiguous last
/// dimension are read in place. Floats; sums in f32 (f64 for f64). Levels with a bf16 dot product round the softmax weights of bf16
/// operands, and in backward those of the scores, to bf16 for their products; other levels keep them in f32. No tensor of T x S elements is
/// made. A row's bits do not depend on the other rows, the batch, or how many queries are computed together. Differentiable in q, k and v;
/// backward keeps q, k, v, the output and one number a row.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale, double softcap, const AttentionMask& mask);

/// The same with the mask spelled out, for the binding.
Tensor attention_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale, double softcap, bool causal, int64_t window,
                    const std::optional<Tensor>& key_lengths, const std::optional<Tensor>& query_offsets,
                    const std::optional<Tensor>& key_mask, const std::optional<Tensor>& documents);

/// q, k, v strided (batch, time, head; last dimension contiguous); out and the gradients contiguous, lse [B, H, T] in f32 (f64 for f64).
struct AttentionArgs {
  DType dtype;
  int64_t batch, queries, keys, heads, groups, width;
  double scale, softcap;
  bool causal;
  int64_t window;
  const void* q;
  const void* k;
  const void* v;
  int64_t q_strides[3], k_strides[3], v_strides[3];
  const int64_t* key_lengths;
  const int64_t* query_offsets;
  const uint8_t* key_mask;
  const int32_t* documents;
  void* out;  // forward writes, backward reads
  void* lse;  // forward writes (where not null), backward reads
  const void* dout;
  void* dq;  // null where not wanted, likewise dk and dv
  void* dk;
  void* dv;
};
inline constinit Kernel<AttentionArgs> attention_fwd_kernel{"attention"};
inline constinit Kernel<AttentionArgs> attention_bwd_kernel{"attention backward"};

}  // namespace lorikeet
