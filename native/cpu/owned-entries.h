#pragma once

// The entries of a tensor that a mask owns, in runs, and copies between a tensor and a run. A mask is a bitmask (entry i is bit i % 8 of
// byte i / 8, lowest first) or the list of the owned places, rising.

#include "cpu/level.h"
#include "ops/mask.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lorikeet::LORIKEET_LEVEL {

/// Owned entries of one run at most.
inline constexpr int64_t kOwnedRun = 512;

/// Entries first .. first + 63 of a bitmask of n; those from n on are not set. `first` is a multiple of 64.
LORIKEET_INLINE uint64_t mask_word(const uint8_t* bits, int64_t first, int64_t n) {
  uint64_t word = 0;
  const int64_t left = n - first;
  if (left >= 64) {
    __builtin_memcpy(&word, bits + first / 8, 8);
    return word;
  }
  __builtin_memcpy(&word, bits + first / 8, static_cast<size_t>((left + 7) / 8));
  return word & ((uint64_t{1} << left) - 1);
}

/// `count` owned entries, number `owned` on among all that the mask owns. Of a bitmask those of its words first .. first + 64 * words - 1;
/// of an index list those at `at`.
struct OwnedRun {
  OwnedEntries mask;
  const int32_t* at;
  int64_t first, words, owned, count;
};

/// Calls body(j, place) for the owned entries of a run.
template <class Body>
LORIKEET_INLINE void for_places(const OwnedRun& run, const Body& body) {
  if (run.at != nullptr) {
    for (int64_t j = 0; j < run.count; ++j) body(j, static_cast<int64_t>(run.at[j]));
    return;
  }
  int64_t j = 0;
  for (int64_t first = run.first, end = first + 64 * run.words; first < end; first += 64) {
    for (uint64_t word = mask_word(run.mask.bits, first, run.mask.size); word != 0; word &= word - 1)
      body(j++, first + __builtin_ctzll(word));
  }
}

/// Calls body(run) for the runs of one task.
template <class Body>
LORIKEET_INLINE void for_owned(const OwnedEntries& mask, int64_t task, const Body& body) {
  const int64_t begin = task * mask.chunk;
  if (mask.bits == nullptr) {
    const int64_t end = begin + mask.chunk < mask.count ? begin + mask.chunk : mask.count;
    for (int64_t first = begin; first < end; first += kOwnedRun)
      body(OwnedRun{mask, mask.indices + first, 0, 0, first, end - first < kOwnedRun ? end - first : kOwnedRun});
    return;
  }
  const int64_t end = begin + mask.chunk < mask.size ? begin + mask.chunk : mask.size;
  OwnedRun run{mask, nullptr, begin, 0, mask.offsets[task], 0};
  for (int64_t first = begin; first < end; first += 64) {
    const int64_t count = __builtin_popcountll(mask_word(mask.bits, first, mask.size));
    if (run.count + count > kOwnedRun) {
      body(run);
      run = {mask, nullptr, first, 0, run.owned + run.count, 0};
    }
    run.count += count;
    ++run.words;
  }
  if (run.count > 0) body(run);
}

#if defined(__AVX512F__)
/// Calls body(place, lanes, j, low) for the sixteens of a run of a bitmask that own entries: lanes of the tensor, and as many of the lowest
/// lanes of what is compact. Zero-masked forms are used throughout; gcc 12 warns of the undefined operand in its own plain ones.
template <class Body>
LORIKEET_INLINE void for_sixteens(const OwnedRun& run, const Body& body) {
  int64_t j = 0;
  for (int64_t first = run.first, end = first + 64 * run.words; first < end; first += 64) {
    uint64_t word = mask_word(run.mask.bits, first, run.mask.size);
    for (int64_t place = first; word != 0; word >>= 16, place += 16) {
      const auto lanes = static_cast<__mmask16>(word);
      const int count = __builtin_popcount(lanes);
      body(place, lanes, j, static_cast<__mmask16>((1u << count) - 1));
      j += count;
    }
  }
}
#endif

/// compact[j] = dense[place of entry j]. Word has the size of an element.
template <class Word>
LORIKEET_INLINE void take_owned(const OwnedRun& run, const Word* dense, Word* compact) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Word) == 4) {
    if (run.at == nullptr) {
      for_sixteens(run, [&](int64_t place, __mmask16 lanes, int64_t j, __mmask16 low) {
        const __m512i values = _mm512_maskz_loadu_epi32(lanes, dense + place);
        _mm512_mask_storeu_epi32(compact + j, low, _mm512_maskz_compress_epi32(lanes, values));
      });
      return;
    }
  }
#endif
  for_places(run, [&](int64_t j, int64_t place) { compact[j] = dense[place]; });
}

/// dense[place of entry j] = compact[j].
template <class Word>
LORIKEET_INLINE void put_owned(const OwnedRun& run, const Word* compact, Word* dense) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Word) == 4) {
    if (run.at == nullptr) {
      for_sixteens(run, [&](int64_t place, __mmask16 lanes, int64_t j, __mmask16 low) {
        const __m512i values = _mm512_maskz_loadu_epi32(low, compact + j);
        _mm512_mask_storeu_epi32(dense + place, lanes, _mm512_maskz_expand_epi32(lanes, values));
      });
      return;
    }
  }
#endif
  for_places(run, [&](int64_t j, int64_t place) { dense[place] = compact[j]; });
}

}  // namespace lorikeet::LORIKEET_LEVEL
