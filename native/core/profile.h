#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// What a profile keeps of a tensor: no memory.
struct ProfiledTensor {
  DType dtype;
  Shape shape;
};

/// One op as it ran on the stream. Undefined tensors of the op stay as empty entries, so that positions tell what a tensor is.
struct ProfiledOp {
  const char* name;
  bool backward;
  /// Milliseconds since the profile began, and spent in the op.
  double start, duration;
  std::vector<std::optional<ProfiledTensor>> inputs, outputs;
};

/// Collects the ops of a stream; engine thread.
class Profile {
 public:
  void run(const char* name, bool backward, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
           const std::function<void()>& body);
  std::vector<ProfiledOp> take() { return std::move(ops_); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
  std::vector<ProfiledOp> ops_;
};

}  // namespace lorikeet
