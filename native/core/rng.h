#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace lorikeet {

/// Philox 4x32-10, a counter-based generator: the same (seed, stream, index) gives the same four words on every machine and thread count.
struct Philox {
  uint32_t word[4];

  LORIKEET_INLINE Philox(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
    uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
      uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<uint32_t>(p1);
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
  }
};

/// A uniform float in [0, 1) with 24 random bits.
LORIKEET_INLINE float uniform_from(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace lorikeet
