#pragma once

#include "cpu/level.h"
#include "ops/tensor-list.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Calls body(entry, first, last, chunk) for one chunk of a list.
template <class Body>
LORIKEET_INLINE void on_chunk(const ListArgs& list, int64_t chunk, const Body& body) {
  int64_t low = 0, high = list.count;
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    (list.first_chunk[middle] <= chunk ? low : high) = middle;
  }
  const ListEntry& entry = list.entries[low];
  int64_t first = (chunk - list.first_chunk[low]) * kListChunk;
  body(entry, first, first + kListChunk < entry.n ? first + kListChunk : entry.n, chunk);
}

/// The same for every chunk, in parallel.
template <class Body>
LORIKEET_INLINE void for_each_chunk(const ListArgs& list, const Body& body) {
  parallel_for(list.first_chunk[list.count], [&](int64_t chunk) { on_chunk(list, chunk, body); });
}

}  // namespace lorikeet::LORIKEET_LEVEL
