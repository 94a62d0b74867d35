#pragma once

// Which elements inverted dropout keeps: element i has word i % 4 of Philox(seed, stream, i / 4) and is kept when its uniform is at least p.

#include "core/rng.h"
#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Calls drop(j) for every dropped element j of [0, count), whose indices in the mask are first + j.
template <class Drop>
LORIKEET_INLINE void for_dropped(uint64_t seed, uint64_t stream, double p, uint64_t first, int64_t count, const Drop& drop) {
  const auto limit = static_cast<float>(p);
  int64_t j = 0;
  while (j < count) {
    const uint64_t index = first + static_cast<uint64_t>(j);
    const Philox block(seed, stream, index / 4);
    for (uint64_t lane = index % 4; lane < 4 && j < count; ++lane, ++j) {
      if (uniform_from(block.word[lane]) < limit) drop(j);
    }
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
