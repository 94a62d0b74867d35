#pragma once

#include <vector>

#include "core/memory.h"
#include "ops/cross-entropy.h"

namespace lorikeet {

/// Memory for the length of one piece of stream work.
class WorkBuffer {
 public:
  explicit WorkBuffer(int64_t bytes) : bytes_(bytes), data_(bytes > 0 ? allocate_memory(bytes) : nullptr) {}
  ~WorkBuffer() {
    if (data_ != nullptr) release_memory(data_, bytes_);
  }
  WorkBuffer(const WorkBuffer&) = delete;
  WorkBuffer& operator=(const WorkBuffer&) = delete;
  void* data() const { return data_; }

 private:
  int64_t bytes_;
  void* data_;
};

/// One cross-entropy problem over rows of hidden states: sizes, and how the head is packed.
struct LossPlan {
  DType dtype;  // of the hidden states
  DType wide;   // of logits and losses: f32, or f64
  Level level;
  Panel panel;
  int64_t rows, width, vocabulary;
  int64_t ignore_index;
  double logit_scale;
  DType bias_dtype;

  /// Rows of a chunk of `count` rows: as equal as whole blocks of a product allow. Logits take about 64 MiB at most, with at least 64 rows
  /// to use each read of the head well: panels of its transpose may be made for every chunk anew.
  int64_t chunk_rows(int64_t count) const;
  /// The rows that count, in order. Throws for a target outside the vocabulary.
  std::vector<int64_t> valid_rows(const char* op, const int64_t* targets) const;
};

/// Pointers of one run over all chunks; what is null is not computed. Inside stream work.
struct LossRun {
  const void* hidden;
  RightOperand head;         // panels over the vocabulary
  RightOperand head_turned;  // panels over the width, for dhidden
  const void* bias;
  const int64_t* targets;
  const void* weights;  // [rows] gradients of the losses; null = 1
  void* losses;         // [rows], written
  void* dhidden;        // [rows, width] in the hidden dtype, written
  void* dhead;          // [vocabulary, width] in the wide type, written
  void* dbias;          // [vocabulary] in the wide type, written
};

/// Runs every chunk of valid rows: logits, losses, and the gradients asked for.
void run_loss_chunks(const LossPlan& plan, const LossRun& run);

}  // namespace lorikeet
