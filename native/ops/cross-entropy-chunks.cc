#include "ops/cross-entropy-chunks.h"

#include <algorithm>
#include <cstring>

namespace lorikeet {
namespace {

constexpr int64_t kLogitsInChunk = 16 << 20;
constexpr int64_t kHeadBlock = 4096;
/// Elements between rows of logits, so that rows of a power of two do not meet in the same lines of a cache.
constexpr int64_t kRowGap = 80;

char* at(void* memory, int64_t elements, DType dtype) { return static_cast<char*>(memory) + elements * size_of(dtype); }
const char* at(const void* memory, int64_t elements, DType dtype) { return static_cast<const char*>(memory) + elements * size_of(dtype); }

/// Rows `rows` of a matrix, together: the matrix itself where they are one run, else copied into `buffer`.
const void* gather_rows(const void* matrix, const int64_t* rows, int64_t count, int64_t width, DType dtype, void* buffer) {
  if (rows[count - 1] - rows[0] == count - 1) return at(matrix, rows[0] * width, dtype);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(at(buffer, i * width, dtype), at(matrix, rows[i] * width, dtype), static_cast<size_t>(width * size_of(dtype)));
  }
  return buffer;
}

/// The chunk loop with its buffers.
class Chunks {
 public:
  Chunks(const LossPlan& plan, const LossRun& run, int64_t chunk_rows)
      : plan_(plan),
        run_(run),
        chunk_(chunk_rows),
        narrow_gradients_(run.dhidden != nullptr && run.dhead == nullptr && run.dbias == nullptr && plan.dtype != plan.wide),
        stride_(run.dhead == nullptr && run.dbias == nullptr ? plan.vocabulary + kRowGap : plan.vocabulary),
        logits_(chunk_ * stride_ * size_of(plan.wide)),
        hidden_(chunk_ * plan.width * size_of(plan.dtype)),
        dhidden_(chunk_ * plan.width * size_of(plan.dtype)),
        losses_(chunk_ * size_of(plan.wide)),
        weights_(chunk_ * size_of(plan.wide)) {}

  void run(const std::vector<int64_t>& valid) {
    auto count = static_cast<int64_t>(valid.size());
    for (int64_t first = 0; first < count; first += chunk_) run_chunk(valid.data() + first, std::min(chunk_, count - first));
  }

 private:
  void run_chunk(const int64_t* rows, int64_t count) {
    const void* x = gather_rows(run_.hidden, rows, count, plan_.width, plan_.dtype, hidden_.data());
    multiply(x, plan_.dtype, plan_.width, plan_.width, run_.head, plan_.vocabulary, logits_.data(), plan_.wide, stride_, count, run_.bias);
    targets_.clear();
    for (int64_t i = 0; i < count; ++i) targets_.push_back(run_.targets[rows[i]]);
    const void* weights = run_.weights != nullptr ? gather_rows(run_.weights, rows, count, 1, plan_.wide, weights_.data()) : nullptr;
    bool wants_gradients = run_.dhidden != nullptr || run_.dhead != nullptr || run_.dbias != nullptr;
    void* gradients = wants_gradients ? logits_.data() : nullptr;
    DType gradient_dtype = narrow_gradients_ ? plan_.dtype : plan_.wide;
    const int64_t gradient_stride = stride_ * (size_of(plan_.wide) / size_of(gradient_dtype));
    loss_rows_kernel.at_level(plan_.level)({plan_.wide, logits_.data(), stride_, count, plan_.vocabulary, targets_.data(),
                                            plan_.ignore_index, plan_.logit_scale, losses_.data(), weights, gradients, gradient_dtype,
                                            gradient_stride});
    for (int64_t i = 0; run_.losses != nullptr && i < count; ++i) {
      std::memcpy(at(run_.losses, rows[i], plan_.wide), at(losses_.data(), i, plan_.wide), static_cast<size_t>(size_of(plan_.wide)));
    }
    if (run_.dhidden != nullptr) {
      multiply(gradients, gradient_dtype, plan_.vocabulary, gradient_stride, run_.head_turned, plan_.width, dhidden_.data(), plan_.dtype,
               plan_.width, count, nullptr);
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(at(run_.dhidden, rows[i] * plan_.width, plan_.dtype), at(dhidden_.data(), i * plan_.width, plan_.dtype),
                    static_cast<size_t>(plan_.width * size_of(plan_.dtype)));
      }
    }
    if (run_.dhead != nullptr) add_to_head(x, count);
    if (run_.dbias != nullptr) add_rows_kernel.at_level(plan_.level)({plan_.wide, logits_.data(), run_.dbias, count, plan_.vocabulary});
  }

  /// y [rows, outputs] = x [rows, inputs] · right + bias, rows of x and y with their strides.
  void multiply(const void* x, DType x_dtype, int64_t inputs, int64_t x_stride, const RightOperand& right, int64_t outputs, void* y,
                DType y_dtype, int64_t y_stride, int64_t rows, const void* bias) {
    GemmArgs args{};
    args.x = x;
    args.x_dtype = x_dtype;
    args.x_row_stride = x_stride;
    args.x_column_stride = 1;
    args.y = y;
    args.y_dtype = y_dtype;
    args.y_row_stride = y_stride;
    args.m = rows;
    args.k = inputs;
    args.n = outputs;
    args.arithmetic = arithmetic_for(plan_.level, x_dtype, plan_.panel);
    args.right = right;
    args.bias = bias;
    args.bias_dtype = plan_.bias_dtype;
    gemm_kernel.at_level(plan_.level)(args);
  }

  /// dhead += gradientsᵀ · x, blocks of the vocabulary one after the other; the gradients lie in the logits' place.
  void add_to_head(const void* x, int64_t count) {
    Panel panel = plan_.wide == DType::f64 ? Panel::f64 : Panel::f32;
    int64_t block = std::min(kHeadBlock, plan_.vocabulary);
    WorkBuffer panels(panel_bytes(plan_.level, panel, plan_.width, count, 2)), product(block * plan_.width * size_of(plan_.wide));
    gemm_pack_kernel.at_level(plan_.level)({x, plan_.dtype, plan_.width, count, 1, plan_.width, 1.0, panel, 2, panels.data()});
    for (int64_t first = 0; first < plan_.vocabulary; first += block) {
      GemmArgs args{};
      args.x = at(logits_.data(), first, plan_.wide);
      args.x_dtype = plan_.wide;
      args.x_row_stride = 1;
      args.x_column_stride = plan_.vocabulary;
      args.y = product.data();
      args.y_dtype = plan_.wide;
      args.y_row_stride = plan_.width;
      args.m = std::min(block, plan_.vocabulary - first);
      args.k = count;
      args.n = plan_.width;
      args.arithmetic = arithmetic_for(plan_.level, plan_.wide, panel);
      args.right = {panel, panels.data()};
      gemm_kernel.at_level(plan_.level)(args);
      add_rows_kernel.at_level(plan_.level)(
          {plan_.wide, product.data(), at(run_.dhead, first * plan_.width, plan_.wide), 1, args.m * plan_.width});
    }
  }

  const LossPlan& plan_;
  const LossRun& run_;
  int64_t chunk_;
  /// Gradients take the place of the logits, row by row. They are rounded to the hidden dtype, so that dhidden runs at that type's speed;
  /// not where the head wants them too.
  bool narrow_gradients_;
  int64_t stride_;  // of the rows of logits
  WorkBuffer logits_, hidden_, dhidden_, losses_, weights_;
  std::vector<int64_t> targets_;
};

}  // namespace

int64_t LossPlan::chunk_rows(int64_t count) const {
  const int64_t most = std::clamp<int64_t>(kLogitsInChunk / std::max<int64_t>(vocabulary, 1), 64, 512);
  const int64_t chunks = (count + most - 1) / most, block = kGemmRows[static_cast<int>(level)];
  return chunks > 1 ? ((count + chunks - 1) / chunks + block - 1) / block * block : std::max<int64_t>(count, 1);
}

std::vector<int64_t> LossPlan::valid_rows(const char* op, const int64_t* targets) const {
  std::vector<int64_t> valid;
  for (int64_t row = 0; row < rows; ++row) {
    if (targets[row] == ignore_index) continue;
    check_argument(targets[row] >= 0 && targets[row] < vocabulary, op, ": target ", targets[row], " at position ", row,
                   " is outside the vocabulary; expected 0 to ", vocabulary - 1, ", or ", ignore_index, " to leave it out");
    valid.push_back(row);
  }
  return valid;
}

void run_loss_chunks(const LossPlan& plan, const LossRun& run) {
  std::vector<int64_t> valid = plan.valid_rows("crossEntropy", run.targets);
  auto clear = [](void* memory, int64_t elements, DType dtype) {
    if (memory != nullptr) std::memset(memory, 0, static_cast<size_t>(elements * size_of(dtype)));
  };
  if (static_cast<int64_t>(valid.size()) != plan.rows) {
    clear(run.losses, plan.rows, plan.wide);
    clear(run.dhidden, plan.rows * plan.width, plan.dtype);
  }
  clear(run.dhead, plan.vocabulary * plan.width, plan.wide);
  clear(run.dbias, plan.vocabulary, plan.wide);
  if (valid.empty()) return;
  Chunks(plan, run, plan.chunk_rows(static_cast<int64_t>(valid.size()))).run(valid);
}

}  // namespace lorikeet
