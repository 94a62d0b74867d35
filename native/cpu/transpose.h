#pragma once

// Transposition of a square of 32-bit words, one vector wide, in registers: log2(kVector) rounds, each exchanging blocks of half the size
// across the diagonal.

#include <utility>

#include "cpu/gemm-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Exchanges the lanes whose index has bit `Bit` between two rows that lie `Bit` apart.
template <int Bit, size_t... Lane>
LORIKEET_INLINE void exchange(WordVector& low, WordVector& high, std::index_sequence<Lane...>) {
  constexpr int n = kVector, bit = Bit;
  const WordVector a = low, b = high;
  low = (WordVector)__builtin_shufflevector(
      a, b, ((static_cast<int>(Lane) & bit) == 0 ? static_cast<int>(Lane) : n + static_cast<int>(Lane) - bit)...);
  high = (WordVector)__builtin_shufflevector(
      a, b, ((static_cast<int>(Lane) & bit) == 0 ? static_cast<int>(Lane) + bit : n + static_cast<int>(Lane))...);
}

template <int Bit>
LORIKEET_INLINE void transpose_rounds(WordVector (&rows)[kVector]) {
#pragma GCC unroll 16
  for (int i = 0; i < kVector; ++i) {
    if ((i & Bit) == 0) exchange<Bit>(rows[i], rows[i + Bit], std::make_index_sequence<kVector>{});
  }
  if constexpr (Bit > 1) transpose_rounds<Bit / 2>(rows);
}

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
