#include "ops/mask.h"
#include "cpu/level.h"
#include "cpu/owned-entries.h"

// Counts and places of the bits of a mask, and copies between a tensor and what a mask owns of it, by the size of an element.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

void count_bits(const MaskCountArgs& a) {
  parallel_for((a.size + a.chunk - 1) / a.chunk, [&](int64_t task) {
    const int64_t end = (task + 1) * a.chunk < a.size ? (task + 1) * a.chunk : a.size;
    int64_t count = 0;
    for (int64_t first = task * a.chunk; first < end; first += 64) count += __builtin_popcountll(mask_word(a.bits, first, a.size));
    a.counts[task] = count;
  });
}

void indices(const MaskIndicesArgs& a) {
  parallel_for(a.mask.tasks(), [&](int64_t task) {
    for_owned(a.mask, task, [&](const OwnedRun& run) {
      int32_t* out = a.out + run.owned;
      for_places(run, [&](int64_t j, int64_t place) { out[j] = static_cast<int32_t>(place); });
    });
  });
}

template <class Word>
void copy_elements(const MaskedCopyArgs& a) {
  auto dense = static_cast<Word*>(a.dense);
  auto compact = static_cast<Word*>(a.compact);
  parallel_for(a.mask.tasks(), [&](int64_t task) {
    for_owned(a.mask, task, [&](const OwnedRun& run) {
      if (a.to_compact) {
        take_owned(run, dense, compact + run.owned);
      } else {
        put_owned(run, compact + run.owned, dense);
      }
    });
  });
}

void copy_blocks(const MaskedCopyArgs& a) {
  auto dense = static_cast<char*>(a.dense);
  auto compact = static_cast<char*>(a.compact);
  const int64_t across = a.columns / a.block, line = a.block * a.bytes;
  parallel_for(a.mask.tasks(), [&](int64_t task) {
    for_owned(a.mask, task, [&](const OwnedRun& run) {
      for_places(run, [&](int64_t j, int64_t entry) {
        char* corner = dense + (entry / across * a.block * a.columns + entry % across * a.block) * a.bytes;
        char* block = compact + (run.owned + j) * a.block * line;
        for (int64_t row = 0; row < a.block; ++row) {
          char *outside = corner + row * a.columns * a.bytes, *inside = block + row * line;
          __builtin_memcpy(a.to_compact ? inside : outside, a.to_compact ? outside : inside, static_cast<size_t>(line));
        }
      });
    });
  });
}

void copy(const MaskedCopyArgs& a) {
  if (a.block > 1) return copy_blocks(a);
  switch (a.bytes) {
    case 1: return copy_elements<uint8_t>(a);
    case 2: return copy_elements<uint16_t>(a);
    case 4: return copy_elements<uint32_t>(a);
    default: return copy_elements<uint64_t>(a);
  }
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(mask_count_kernel, lorikeet::LORIKEET_LEVEL::count_bits)
LORIKEET_KERNEL(mask_indices_kernel, lorikeet::LORIKEET_LEVEL::indices)
LORIKEET_KERNEL(masked_copy_kernel, lorikeet::LORIKEET_LEVEL::copy)
