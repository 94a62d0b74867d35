#pragma once

#include <vector>

#include "core/autograd.h"
#include "core/kernel.h"
#include "core/tensor.h"

namespace lorikeet {

/// Draws one token a row from logits [B, V] (floats, used as f32): softmax of logits / temperature, cut to the top_k largest (0 = all),
/// then to the smallest set of largest probabilities that sum to at least top_p (1 = all). Temperature 0 takes the largest. Where equal
/// logits compete for a place the lowest index wins. With one seed for all, the draw of a row follows from (seed, step, row); with a seed
/// for each row, from (its seed, step), so that it does not depend on the batch. Gives ids i64 [B], the logarithm of the chosen token's
/// probability under the final distribution f32 [B], and under the softmax of the logits f32 [B]. A row that holds NaN or infinity, or
/// nothing but -infinity, fails the op when it runs (non_finite). Not differentiable.
Tensors sample(const Tensor& logits, double temperature, int64_t top_k, double top_p, const std::vector<uint64_t>& seeds, uint64_t step);

/// Logits in which every token of ids [B, N] (i64; negative entries are skipped) is divided by the penalty where positive and multiplied
/// where negative, once however often it occurs. Floats; logits' shape and dtype. Not differentiable.
Tensor repetition_penalty(const Tensor& logits, const Tensor& ids, double penalty);

struct SampleArgs {
  const float* logits;  // [rows, columns]
  int64_t* ids;         // -1 marks a row that cannot be sampled
  float* log_probability;
  float* raw_log_probability;
  int64_t rows, columns;
  float temperature;
  int64_t top_k;  // 1 to columns
  double top_p;
  const uint64_t* seeds;  // [rows], or one for all
  bool seed_each;
  uint64_t step;
};
inline constinit Kernel<SampleArgs> sample_kernel{"sample"};

struct PenaltyArgs {
  DType dtype;
  const void* logits;  // [rows, columns]
  void* out;
  const int64_t* ids;  // [rows, count]
  int64_t rows, columns, count;
  double penalty;
};
inline constinit Kernel<PenaltyArgs> repetition_penalty_kernel{"repetitionPenalty"};

}  // namespace lorikeet
