#pragma once

// Included first by every kernel file in cpu/. Each file is compiled once per instruction level with LORIKEET_LEVEL set to that level's
// name; all its code lives in namespace lorikeet::LORIKEET_LEVEL. No std templates with out-of-line code here: a weak symbol compiled for a
// wide level could be picked by the linker for the whole binary (scripts/check-isa-leaks.mjs verifies that none exists).

#include <cstdint>

#include "core/dtype.h"
#include "core/kernel.h"
#include "core/parallel.h"

#if !defined(LORIKEET_LEVEL)
#define LORIKEET_LEVEL scalar
#endif

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr Level kThisLevel = Level::LORIKEET_LEVEL;

// Floating contraction is off in kernel files: a multiply-add fuses exactly where fma() is written, in vector bodies and scalar tails
// alike.
LORIKEET_INLINE float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
LORIKEET_INLINE double fma(double a, double b, double c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace lorikeet::LORIKEET_LEVEL
