#pragma once

// A few rows of x times a panel of a W that is kept row-major: squares of W are turned in registers and go from there to the sums. Each
// output is the chain of a packed W.

#include "cpu/stored-panels.h"
#include "cpu/transpose-rounds.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Whether the words of a panel lie in the rows of W as they are: what Kind multiplies was stored so.
template <class Kind>
LORIKEET_INLINE bool has_stored_words(const StoredMatrix& w) {
  if (__is_same(typename Kind::Accumulator, double)) return false;
  return w.dtype == (Kind::kDepth == 2 ? DType::bf16 : DType::f32);
}

/// R rows of x against the rows of one panel of W. Step takes one step of one output vector (FewStep of cpu/gemv.h).
template <class Kind, class Step, int R>
struct StoredRows {
  using Left = typename Step::Left;
  static constexpr int64_t kWordBytes = 4;

  const StoredMatrix& w;
  int64_t first;  // row of W
  const Left* left;
  int64_t left_stride;

  const char* row(int64_t i) const {
    return static_cast<const char*>(w.values) + smaller(first + i, w.rows - 1) * w.columns * size_of(w.dtype);
  }

  /// kVector words of kVector rows, turned, from byte `byte` of the rows on; `bytes` of them are there.
  LORIKEET_INLINE static void square(const char* const (&rows)[kVector], int64_t byte, int64_t bytes, WordVector (&words)[kVector]) {
    if (bytes >= kVectorBytes) {
#pragma GCC unroll 16
      for (int i = 0; i < kVector; ++i) __builtin_memcpy(&words[i], rows[i] + byte, kVectorBytes);
    } else {
      for (int i = 0; i < kVector; ++i) {
        words[i] = WordVector{};
        __builtin_memcpy(&words[i], rows[i] + byte, static_cast<size_t>(bytes));
      }
    }
    transpose_rounds<kVector / 2>(words);
  }

  /// tile [R][2] = the sums; the `ahead` bytes after the rows are on their way meanwhile.
  void multiply(int64_t ahead, FloatVector* tile) const {
    const char* rows[2][kVector];
    for (int64_t i = 0; i < 2 * kVector; ++i) rows[i / kVector][i % kVector] = row(i);
    const int64_t row_bytes = w.columns * size_of(w.dtype), steps = steps_of<Kind>(w.columns);
    const char* next = rows[0][0] + 2 * kVector * row_bytes;
    FloatVector sum[2][R][1] = {};
    for (int64_t step = 0; step < steps; step += kVector) {
      const int64_t count = smaller(kVector, steps - step), byte = step * kWordBytes;
      for (int64_t i = 2 * kVector * byte; i < smaller(2 * kVector * (byte + kVectorBytes), ahead); i += 64) {
        __builtin_prefetch(next + i, 0, 2);
      }
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        WordVector words[kVector];
        square(rows[half], byte, row_bytes - byte, words);
        const Left* x = left + step * Step::kLeft;
        if (count == kVector) {
#pragma GCC unroll 16
          for (int i = 0; i < kVector; ++i) add(words[i], x + i * Step::kLeft, sum[half]);
        } else {
          for (int64_t i = 0; i < count; ++i) add(words[i], x + i * Step::kLeft, sum[half]);
        }
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) tile[r * 2 + half] = sum[half][r][0];
    }
  }

  LORIKEET_INLINE void add(const WordVector& words, const Left* x, FloatVector (&sum)[R][1]) const {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) Step::template add<1>(sum[r], x + r * left_stride, reinterpret_cast<const FloatVector*>(&words));
  }
};

}  // namespace lorikeet::LORIKEET_LEVEL
