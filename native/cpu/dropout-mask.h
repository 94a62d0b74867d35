#pragma once

// Which elements inverted dropout keeps: element i has word i % 4 of Philox(seed, stream, i / 4) and is kept when its uniform is at least
// p. Masks are made in pieces of many counters, whose rounds run side by side in vectors.

#include "core/rng.h"
#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

/// keep[j] = all ones where element first + j is kept, else zero, for j in [0, Piece); `first` is a multiple of 4.
template <int64_t Piece>
LORIKEET_INLINE void mask_piece(uint64_t seed, uint64_t stream, float p, uint64_t first, uint32_t (&keep)[Piece]) {
  for (int64_t block = 0; block < Piece / 4; ++block) {
    const Philox words(seed, stream, first / 4 + static_cast<uint64_t>(block));
    for (int lane = 0; lane < 4; ++lane) keep[block * 4 + lane] = uniform_from(words.word[lane]) < p ? 0u : ~0u;
  }
}

/// Calls apply(j, keep, count) for runs of elements [j, j + count) that cover [0, count of all); their indices in the mask are start + j...
template <int64_t Piece = 256, class Apply>
LORIKEET_INLINE void for_mask(uint64_t seed, uint64_t stream, double p, uint64_t start, int64_t count, const Apply& apply) {
  static_assert(Piece % 4 == 0);
  uint32_t keep[Piece];
  int64_t skip = static_cast<int64_t>(start % 4);
  for (int64_t j = 0; j < count;) {
    mask_piece(seed, stream, static_cast<float>(p), start + static_cast<uint64_t>(j) - static_cast<uint64_t>(skip), keep);
    const int64_t run = count - j < Piece - skip ? count - j : Piece - skip;
    apply(j, keep + skip, run);
    j += run;
    skip = static_cast<int64_t>((start + static_cast<uint64_t>(j)) % 4);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
