#include "core/profile.h"

namespace lorikeet {
namespace {

std::vector<std::optional<ProfiledTensor>> notes(const std::vector<Tensor>& tensors) {
  std::vector<std::optional<ProfiledTensor>> result;
  result.reserve(tensors.size());
  for (const Tensor& x : tensors) {
    if (x.defined()) {
      result.emplace_back(ProfiledTensor{x.dtype(), x.shape()});
    } else {
      result.emplace_back(std::nullopt);
    }
  }
  return result;
}

}  // namespace

void Profile::run(const char* name, bool backward, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                  const std::function<void()>& body) {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  ProfiledOp op{name, backward, 0, 0, notes(inputs), notes(outputs)};
  const Clock::time_point start = Clock::now();
  body();
  op.start = Milliseconds(start - begin_).count();
  op.duration = Milliseconds(Clock::now() - start).count();
  ops_.push_back(std::move(op));
}

}  // namespace lorikeet
