#include "ops/sample.h"

#include <algorithm>

#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_logits(const char* name, const Tensor& logits) {
  check_argument(is_float(logits.dtype()), name, ": logits must be floating; got ", name_of(logits.dtype()));
  check_shape(logits.rank() == 2 && logits.size(1) > 0 && logits.size(1) < INT32_MAX, name, ": logits have the wrong shape; got ",
              to_string(logits.shape()), ", expected [B, V] with V > 0");
  check(logits.device() == Device::cpu, ErrorCode::device, name, ": no cuda kernel in this build");
}

}  // namespace

Tensors sample(const Tensor& input, double temperature, int64_t top_k, double top_p, const std::vector<uint64_t>& seeds, uint64_t step) {
  check_logits("sample", input);
  check_argument(temperature >= 0 && temperature <= 1e30, "sample: temperature must be a number from 0 on; got ", temperature);
  check_argument(top_k >= 0, "sample: topK must not be negative; got ", top_k);
  check_argument(top_p > 0 && top_p <= 1, "sample: topP must lie in (0, 1]; got ", top_p);
  int64_t rows = input.size(0), columns = input.size(1), given = static_cast<int64_t>(seeds.size());
  check_argument(given == 1 || given == rows, "sample: one seed or one for each row; got ", given, " for ", rows, " rows");
  NoGrad no_grad;
  Tensor logits = contiguous(cast(input.detach(), DType::f32));
  Tensor ids = empty(Shape{rows}, DType::i64), log_probability = empty(Shape{rows}, DType::f32), raw = empty(Shape{rows}, DType::f32);
  enqueue("sample", {logits}, {ids, log_probability, raw}, [=] {
    sample_kernel({logits.data<float>(), ids.data<int64_t>(), log_probability.data<float>(), raw.data<float>(), rows, columns,
                   static_cast<float>(temperature), top_k == 0 ? columns : std::min(top_k, columns), top_p, seeds.data(), given == rows,
                   step});
    for (int64_t row = 0; row < rows; ++row) {
      check(ids.data<int64_t>()[row] >= 0, ErrorCode::non_finite, "sample: logits of row ", row, " are not finite");
    }
  });
  return {ids, log_probability, raw};
}

Tensor repetition_penalty(const Tensor& input, const Tensor& input_ids, double penalty) {
  check_logits("repetitionPenalty", input);
  check_argument(penalty > 0, "repetitionPenalty: the penalty must be positive; got ", penalty);
  check_argument(input_ids.dtype() == DType::i64, "repetitionPenalty: ids must be i64; got ", name_of(input_ids.dtype()));
  check_shape(input_ids.rank() == 2 && input_ids.size(0) == input.size(0), "repetitionPenalty: ids have the wrong shape; got ",
              to_string(input_ids.shape()), ", expected [B, N] for logits ", to_string(input.shape()));
  NoGrad no_grad;
  Tensor logits = contiguous(input.detach()), ids = contiguous(input_ids), out = empty_like(logits);
  PenaltyArgs args{logits.dtype(), nullptr, nullptr, nullptr, logits.size(0), logits.size(1), ids.size(1), penalty};
  enqueue("repetitionPenalty", {logits, ids}, {out}, [=]() mutable {
    args.ids = ids.data<int64_t>();
    for (int64_t i = 0; i < ids.numel(); ++i) {
      check_argument(args.ids[i] < args.columns, "repetitionPenalty: an id is out of range; got ", args.ids[i], ", expected less than ",
                     args.columns);
    }
    args.logits = logits.raw();
    args.out = out.raw();
    repetition_penalty_kernel(args);
  });
  return out;
}

}  // namespace lorikeet
