#pragma once

// Transposition of squares of lanes in registers: log2(rows) rounds, each exchanging blocks of half the size across the diagonal. Rows with
// more lanes than there are rows hold several squares side by side, and each is transposed.

#include <utility>

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Exchanges the lanes whose index has bit `Bit` between two rows that lie `Bit` apart.
template <int Bit, class Row, size_t... Lane>
LORIKEET_INLINE void exchange(Row& low, Row& high, std::index_sequence<Lane...>) {
  constexpr int n = static_cast<int>(sizeof...(Lane)), bit = Bit;
  const Row a = low, b = high;
  low = (Row)__builtin_shufflevector(a, b,
                                     ((static_cast<int>(Lane) & bit) == 0 ? static_cast<int>(Lane) : n + static_cast<int>(Lane) - bit)...);
  high = (Row)__builtin_shufflevector(a, b,
                                      ((static_cast<int>(Lane) & bit) == 0 ? static_cast<int>(Lane) + bit : n + static_cast<int>(Lane))...);
}

template <int Bit, class Row, int N>
LORIKEET_INLINE void transpose_rounds(Row (&rows)[N]) {
  constexpr size_t kLaneCount = sizeof(Row) / sizeof(rows[0][0]);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    if ((i & Bit) == 0) exchange<Bit>(rows[i], rows[i + Bit], std::make_index_sequence<kLaneCount>{});
  }
  if constexpr (Bit > 1) transpose_rounds<Bit / 2>(rows);
}

}  // namespace lorikeet::LORIKEET_LEVEL
