#pragma once

#include <vector>

#include "core/autograd.h"
#include "core/tensor.h"

namespace lorikeet {

/// One tensor of a list that a multi-tensor kernel works through, with the tensors that go along with it element by element.
struct ListEntry {
  DType dtype;
  int64_t n;
  void* data[6];
  double scalars[2];
};

/// Elements of one task. The cut depends on the sizes alone.
inline constexpr int64_t kListChunk = 16384;

/// Entries in order; entry i has the chunks first_chunk[i] .. first_chunk[i + 1].
struct ListArgs {
  const ListEntry* entries;
  const int64_t* first_chunk;
  int64_t count;
};

/// Builds ListArgs; filled and used inside stream work.
class TensorList {
 public:
  void add(const ListEntry& entry) {
    entries_.push_back(entry);
    first_chunk_.push_back(first_chunk_.back() + (entry.n + kListChunk - 1) / kListChunk);
  }
  ListArgs args() const { return {entries_.data(), first_chunk_.data(), static_cast<int64_t>(entries_.size())}; }
  int64_t chunks() const { return first_chunk_.back(); }

 private:
  std::vector<ListEntry> entries_;
  std::vector<int64_t> first_chunk_{0};
};

/// Tape-free tensors of a list, for stream work.
inline Tensors detached(const Tensors& tensors) {
  Tensors result;
  for (const Tensor& x : tensors) result.push_back(x.detach());
  return result;
}

/// A one-element floating tensor read inside stream work; 1 for an undefined one.
inline double scale_of(const Tensor& scale) {
  if (!scale.defined()) return 1;
  return scale.dtype() == DType::f64 ? *scale.data<double>() : static_cast<double>(*scale.data<float>());
}

inline void check_scale(const char* op, const Tensor& scale) {
  check_argument(!scale.defined() || (scale.numel() == 1 && (scale.dtype() == DType::f32 || scale.dtype() == DType::f64)), op,
                 ": the scale must be one f32 or f64 number; got ", scale.defined() ? name_of(scale.dtype()) : "", " ",
                 scale.defined() ? to_string(scale.shape()) : "");
}

}  // namespace lorikeet
