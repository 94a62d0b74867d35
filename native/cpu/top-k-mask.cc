#include "cpu/level.h"
#include "cpu/stored-vector.h"
#include "cpu/tensor-list.h"
#include "ops/mask.h"

// Magnitudes become unsigned keys of the same order (NaN largest). A radix select from the top digit finds the k-th largest key of all
// tensors together, without a copy of them: each pass reads everything once and counts the next digit of the keys that still match. Slices
// of chunks count side by side. Then one pass counts the keys equal to the limit, which are taken in order, and one writes the bits.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

template <class T>
struct KeyOf {
  using Type = uint32_t;
  static constexpr int kBits = 31;
  LORIKEET_INLINE static Type of(const T* x) {
    const uint32_t bits = float_to_bits(load(x)) & 0x7fffffffu;
    return bits > 0x7f800000u ? 0x7fffffffu : bits;
  }
};
template <>
struct KeyOf<double> {
  using Type = uint64_t;
  static constexpr int kBits = 63;
  LORIKEET_INLINE static Type of(const double* x) {
    uint64_t bits;
    __builtin_memcpy(&bits, x, sizeof bits);
    bits &= ~uint64_t{0} >> 1;
    return bits > uint64_t{0x7ff} << 52 ? ~uint64_t{0} >> 1 : bits;
  }
};

constexpr int kDigitBits = 11;
constexpr int64_t kDigits = int64_t{1} << kDigitBits;
constexpr int64_t kSlices = 32;
/// Elements whose keys are made at a time.
constexpr int64_t kPiece = 512;

/// Calls body(keys, count, first) for pieces of the elements [first, last) of x.
template <class T, class Body>
LORIKEET_INLINE void for_keys(const T* x, int64_t first, int64_t last, const Body& body) {
  typename KeyOf<T>::Type keys[kPiece];
  for (; first < last; first += kPiece) {
    const int64_t count = last - first < kPiece ? last - first : kPiece;
    for (int64_t j = 0; j < count; ++j) keys[j] = KeyOf<T>::of(x + first + j);
    body(keys, count, first);
  }
}

/// Moves the keys whose bits from `top` on are `prefix` to the front; returns how many there are.
template <class Key>
LORIKEET_INLINE int64_t keep_matching(Key* keys, int64_t count, Key prefix, int top) {
  int64_t kept = 0, j = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(Key) == 4) {
    const __m512i wanted = _mm512_maskz_set1_epi32(kAllLanes, static_cast<int>(prefix));
    const __m128i shift = _mm_cvtsi32_si128(top);
    for (; j + 16 <= count; j += 16) {
      const __m512i key = _mm512_maskz_loadu_epi32(kAllLanes, keys + j);
      const __mmask16 match = _mm512_cmpeq_epi32_mask(_mm512_maskz_srl_epi32(kAllLanes, key, shift), wanted);
      _mm512_mask_storeu_epi32(keys + kept, kAllLanes, _mm512_maskz_compress_epi32(match, key));
      kept += __builtin_popcount(match);
    }
  }
#endif
  for (; j < count; ++j) {
    const Key key = keys[j];
    keys[kept] = key;
    kept += key >> top == prefix ? 1 : 0;
  }
  return kept;
}

/// Adds digit `low` of the keys whose bits from `top` on are `prefix` to a histogram of two parts, so that equal neighbours do not wait for
/// each other.
template <class T, class Key>
LORIKEET_INLINE void count_digits(const T* x, int64_t first, int64_t last, Key prefix, int top, int low, uint32_t* histogram) {
  const Key digits = (Key{1} << (top - low)) - 1;
  for_keys<T>(x, first, last, [&](Key* keys, int64_t count, int64_t) {
    const int64_t kept = top == KeyOf<T>::kBits ? count : keep_matching(keys, count, prefix, top);
    int64_t j = 0;
    for (; j + 2 <= kept; j += 2) {
      ++histogram[keys[j] >> low & digits];
      ++histogram[kDigits + static_cast<int64_t>(keys[j + 1] >> low & digits)];
    }
    if (j < kept) ++histogram[keys[j] >> low & digits];
  });
}

/// The bits of up to 64 flags of 0 or 1: those of eight bytes are brought together by one product.
LORIKEET_INLINE uint64_t bits_of(const uint8_t* flags) {
  uint64_t bits = 0;
  for (int byte = 0; byte < 8; ++byte) {
    uint64_t eight;
    __builtin_memcpy(&eight, flags + 8 * byte, 8);
    bits |= (eight * 0x0102040810204080u >> 56) << 8 * byte;
  }
  return bits;
}

/// Writes the bits of a chunk: keys above the limit, and the first `ties` equal to it.
template <class T, class Key>
LORIKEET_INLINE void write_bits(const T* x, int64_t first, int64_t last, Key limit, int64_t ties, int64_t equal, uint8_t* bits) {
  for_keys<T>(x, first, last, [&](Key* keys, int64_t count, int64_t start) {
    for (int64_t j = count; j < (count + 63) / 64 * 64; ++j) keys[j] = 0;
    for (int64_t part = 0; part < count; part += 64) {
      uint8_t flags[64];
      if (ties == 0 || ties == equal) {
        const Key smallest = limit + (ties == 0 ? 1 : 0);
        for (int j = 0; j < 64; ++j) flags[j] = keys[part + j] >= smallest ? 1 : 0;
      } else {
        for (int j = 0; j < 64; ++j) {
          const int taken = keys[part + j] == limit && ties > 0 ? 1 : 0;
          ties -= taken;
          equal -= keys[part + j] == limit ? 1 : 0;
          flags[j] = static_cast<uint8_t>(keys[part + j] > limit || taken != 0 ? 1 : 0);
        }
      }
      const int64_t left = count - part < 64 ? count - part : 64;
      const uint64_t word = bits_of(flags) & (left == 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1);
      __builtin_memcpy(bits + (start + part) / 8, &word, static_cast<size_t>((left + 7) / 8));
    }
  });
}

/// The k-th largest key (k >= 1); `k` becomes how many keys equal to it belong to the k largest.
template <class Key>
Key kth_largest(const TopKMaskArgs& a, int key_bits, int64_t& k) {
  const int64_t chunks = a.list.first_chunk[a.list.count], slices = chunks < kSlices ? chunks : kSlices;
  constexpr int64_t kCounters = 2 * kDigits;
  Scratch memory(slices * kCounters * static_cast<int64_t>(sizeof(uint32_t)));
  auto histograms = memory.as<uint32_t>();
  Key limit = 0;
  for (int top = key_bits; top > 0;) {
    const int low = top > kDigitBits ? top - kDigitBits : 0;
    parallel_for(slices, [&](int64_t slice) {
      uint32_t* own = histograms + slice * kCounters;
      for (int64_t i = 0; i < kCounters; ++i) own[i] = 0;
      for (int64_t chunk = chunks * slice / slices; chunk < chunks * (slice + 1) / slices; ++chunk) {
        on_chunk(a.list, chunk, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t) {
          LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
            if constexpr (__is_same(Key, typename KeyOf<T>::Type))
              count_digits<T, Key>(static_cast<const T*>(entry.data[0]), first, last, static_cast<Key>(limit >> top), top, low, own);
          })
        });
      }
    });
    int64_t digit = (int64_t{1} << (top - low)) - 1;
    for (;; --digit) {
      int64_t count = 0;
      for (int64_t part = 0; part < 2 * slices; ++part) count += histograms[part * kDigits + digit];
      if (count >= k) break;
      k -= count;
    }
    limit |= static_cast<Key>(digit) << low;
    top = low;
  }
  return limit;
}

template <class Key>
void select(const TopKMaskArgs& a, int key_bits) {
  const int64_t chunks = a.list.first_chunk[a.list.count];
  int64_t left = a.k;
  // Above every key when there is nothing to select.
  const Key limit = a.k == 0 ? static_cast<Key>(~Key{0} >> 1) : kth_largest<Key>(a, key_bits, left);
  Scratch memory((2 * chunks + 1) * static_cast<int64_t>(sizeof(int64_t)));
  int64_t *equal = memory.as<int64_t>(), *ties = equal + chunks;
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t chunk) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
      if constexpr (__is_same(Key, typename KeyOf<T>::Type)) {
        int64_t found = 0;
        for_keys<T>(static_cast<const T*>(entry.data[0]), first, last, [&](Key* keys, int64_t count, int64_t) {
          for (int64_t j = 0; j < count; ++j) found += keys[j] == limit ? 1 : 0;
        });
        equal[chunk] = found;
      }
    })
  });
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    ties[chunk] = left < equal[chunk] ? left : equal[chunk];
    left -= ties[chunk];
  }
  for_each_chunk(a.list, [&](const ListEntry& entry, int64_t first, int64_t last, int64_t chunk) {
    LORIKEET_FLOAT_SWITCH(entry.dtype, T, {
      if constexpr (__is_same(Key, typename KeyOf<T>::Type))
        write_bits<T, Key>(static_cast<const T*>(entry.data[0]), first, last, limit, ties[chunk], equal[chunk],
                           static_cast<uint8_t*>(entry.data[1]));
    })
  });
}

void top_k_mask(const TopKMaskArgs& a) {
  if (a.list.count > 0 && a.list.entries[0].dtype == DType::f64) return select<uint64_t>(a, KeyOf<double>::kBits);
  select<uint32_t>(a, KeyOf<float>::kBits);
}

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(top_k_mask_kernel, lorikeet::LORIKEET_LEVEL::top_k_mask)
