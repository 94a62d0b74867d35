#pragma once

// Transposition of a square of 32-bit words in memory, one vector wide.

#include "cpu/gemm-micro.h"
#include "cpu/transpose-rounds.h"

namespace lorikeet::LORIKEET_LEVEL {

/// A square of words in memory.
struct alignas(64) WordSquare {
  uint32_t rows[kVector][kVector];
};

/// rows[i][j] becomes rows[j][i].
LORIKEET_INLINE void transpose_square(WordSquare& square) {
  WordVector rows[kVector];
#pragma GCC unroll 16
  for (int i = 0; i < kVector; ++i) rows[i] = *reinterpret_cast<const WordVector*>(square.rows[i]);
  transpose_rounds<kVector / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kVector; ++i) *reinterpret_cast<WordVector*>(square.rows[i]) = rows[i];
}

}  // namespace lorikeet::LORIKEET_LEVEL
