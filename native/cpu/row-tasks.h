#pragma once

#include "cpu/level.h"
#include "cpu/stored-vector.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Calls body(row) for every row, several short rows to a task. Rows own their outputs, so the cut is free to depend on the sizes.
template <class Body>
LORIKEET_INLINE void for_each_row(int64_t rows, int64_t columns, const Body& body) {
  int64_t per_task = columns >= 16384 ? 1 : 16384 / (columns > 0 ? columns : 1);
  parallel_for((rows + per_task - 1) / per_task, [&](int64_t task) {
    int64_t last = (task + 1) * per_task < rows ? (task + 1) * per_task : rows;
    for (int64_t row = task * per_task; row < last; ++row) body(row);
  });
}

/// sum = x + addend for one row, each element rounded once; sum may be either of them.
template <class T>
LORIKEET_INLINE void add_row(const T* x, const T* addend, T* sum, int64_t n) {
  for_each_vector<T>(
      n, [&](int64_t i, int64_t count) { store_stored(sum + i, load_stored(x + i, count) + load_stored(addend + i, count), count); });
}

/// Sums over rows, column by column: total[c] = Σ_r term(r, c) with rows added in slices of kRowSlice, then the slices, both in order;
/// calls finish(c, total) for each column. A task owns a block of columns, so the order does not depend on threads.
inline constexpr int64_t kRowSlice = 128;
inline constexpr int64_t kColumnBlock = 64;

template <class C, class Term, class Finish>
LORIKEET_INLINE void sum_rows(int64_t rows, int64_t columns, const Term& term, const Finish& finish) {
  parallel_for((columns + kColumnBlock - 1) / kColumnBlock, [&](int64_t block) {
    int64_t from = block * kColumnBlock, width = from + kColumnBlock < columns ? kColumnBlock : columns - from;
    C total[kColumnBlock] = {};
    for (int64_t first = 0; first < rows; first += kRowSlice) {
      int64_t last = first + kRowSlice < rows ? first + kRowSlice : rows;
      C slice[kColumnBlock] = {};
      for (int64_t row = first; row < last; ++row) {
        for (int64_t c = 0; c < width; ++c) slice[c] += term(row, from + c);
      }
      for (int64_t c = 0; c < width; ++c) total[c] += slice[c];
    }
    for (int64_t c = 0; c < width; ++c) finish(from + c, total[c]);
  });
}

}  // namespace lorikeet::LORIKEET_LEVEL
