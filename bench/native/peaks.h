#pragma once

#include <cstdint>

#include "core/level.h"

namespace lorikeet::bench {

/// The loops of one instruction level.
struct Peaks {
  /// Multiplies and adds in registers `loops` times over; returns the floating-point operations done and leaves a value that depends on all
  /// of them.
  double (*f32)(int64_t loops, float* result);
  /// Products of bf16 pairs summed in f32.
  double (*bf16)(int64_t loops, float* result);
  /// The sum of n floats (n a multiple of 16, 64-byte aligned).
  float (*read)(const float* x, int64_t n);
  /// a = b + 1.5 c.
  void (*triad)(float* a, const float* b, const float* c, int64_t n);
};

/// Levels without an instruction for pairs of bf16 multiply them as f32.
Peaks peaks_of(Level level);

}  // namespace lorikeet::bench
