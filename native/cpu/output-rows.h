#pragma once

// The way out of a product: its bias in the type of the sums, and rows of sums rounded to what is stored.

#include "cpu/level.h"
#include "ops/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {

/// The bias of a product in the type of its sums.
template <class Accumulator>
class WideBias {
 public:
  explicit WideBias(const GemmArgs& args)
      : memory_(args.bias == nullptr ? 0 : args.n * static_cast<int64_t>(sizeof(Accumulator))),
        values_(args.bias == nullptr ? nullptr : memory_.as<Accumulator>()) {
    if (values_ == nullptr) return;
    LORIKEET_FLOAT_SWITCH(args.bias_dtype, T, {
      const T* bias = static_cast<const T*>(args.bias);
      for (int64_t j = 0; j < args.n; ++j) values_[j] = static_cast<Accumulator>(load(bias + j));
    });
  }

  /// [n], or null without a bias.
  const Accumulator* values() const { return values_; }

 private:
  const Scratch memory_;
  Accumulator* const values_;
};

/// `bias` may be null.
template <int64_t Width, class T, class Accumulator>
LORIKEET_INLINE void write_row(const Accumulator* source, const Accumulator* bias, T* target, int64_t columns) {
  const int64_t count = Width > 0 ? Width : columns;  // a constant where it can be
  if (bias != nullptr) {
    for (int64_t j = 0; j < count; ++j) store(target + j, static_cast<compute_t<T>>(source[j] + bias[j]));
  } else {
    for (int64_t j = 0; j < count; ++j) store(target + j, static_cast<compute_t<T>>(source[j]));
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
