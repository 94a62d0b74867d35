#pragma once

// Arithmetic of sizes that kernels cut their work with.

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

LORIKEET_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
LORIKEET_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// `value` raised to `low`, then lowered to `high`.
LORIKEET_INLINE int64_t within(int64_t value, int64_t low, int64_t high) {
  const int64_t raised = value < low ? low : value;
  return raised > high ? high : raised;
}

LORIKEET_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace lorikeet::LORIKEET_LEVEL
