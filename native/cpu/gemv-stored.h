#pragma once

// A few rows of x times a panel of a W that is kept row-major: squares of W are turned in registers and go from there to the sums. Each
// output is the chain of a packed W.

#include "cpu/stored-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

/// tile [R][2] = R rows of x, `left_stride` elements apart, times the rows of one panel. Step takes one step (FewStep of cpu/gemv.h).
template <class Step, int R>
void stored_few_rows(const PanelWords& right, const typename Step::Left* left, int64_t left_stride, FloatVector* tile) {
  FloatVector sum[2][R][1] = {};
  for (int64_t byte = 0; byte < right.row_bytes; byte += kVectorBytes) {
    right.prefetch(byte);
    const typename Step::Left* x = left + byte / 4 * Step::kLeft;
    const int64_t steps = smaller(kVector, (right.row_bytes - byte + 3) / 4);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      WordVector words[kVector];
      right.square(half, byte, right.row_bytes, words);
      const auto add = [&](int64_t i) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          Step::template add<1>(sum[half][r], x + r * left_stride + i * Step::kLeft, reinterpret_cast<const FloatVector*>(&words[i]));
        }
      };
      if (steps == kVector) {
#pragma GCC unroll 16
        for (int i = 0; i < kVector; ++i) add(i);
      } else {
        for (int64_t i = 0; i < steps; ++i) add(i);
      }
    }
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) tile[r * 2 + half] = sum[half][r][0];
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
