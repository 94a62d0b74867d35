#include "cpu/level.h"
#include "cpu/row-tasks.h"
#include "ops/top-k.h"

// Floats become unsigned keys of the same order (NaN largest, -0 = +0). A radix select over 11-bit digits finds the k-th largest key; one pass then collects
// the larger keys and the first of the equal ones, and a heap sort orders them by key, then by place.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

LORIKEET_INLINE uint32_t key_of(float value) {
  if (value != value) return ~0u;
  uint32_t bits = float_to_bits(value == 0 ? 0.0f : value);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

LORIKEET_INLINE uint64_t key_of(double value) {
  if (value != value) return ~uint64_t{0};
  double positive = value == 0 ? 0.0 : value;
  uint64_t bits;
  __builtin_memcpy(&bits, &positive, sizeof bits);
  return bits >> 63 != 0 ? ~bits : bits | uint64_t{1} << 63;
}

constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;

template <class Key>
struct Entry {
  Key key;
  int64_t index;
};

/// True when a comes before b in the result.
template <class Key>
LORIKEET_INLINE bool before(const Entry<Key>& a, const Entry<Key>& b) {
  return a.key != b.key ? a.key > b.key : a.index < b.index;
}

/// Moves the entry at `root` down a heap whose top comes last in the result.
template <class Key>
LORIKEET_INLINE void sift_down(Entry<Key>* heap, int64_t root, int64_t size) {
  Entry<Key> moving = heap[root];
  for (int64_t child; (child = 2 * root + 1) < size; root = child) {
    if (child + 1 < size && before(heap[child], heap[child + 1])) ++child;
    if (!before(moving, heap[child])) break;
    heap[root] = heap[child];
  }
  heap[root] = moving;
}

template <class Key>
LORIKEET_INLINE void sort(Entry<Key>* entries, int64_t size) {
  for (int64_t root = size / 2 - 1; root >= 0; --root) sift_down(entries, root, size);
  for (int64_t last = size - 1; last > 0; --last) {
    Entry<Key> top = entries[0];
    entries[0] = entries[last];
    entries[last] = top;
    sift_down(entries, 0, last);
  }
}

/// The k-th largest key (k >= 1); `equal` receives how many keys equal to it belong to the k largest.
template <class Key, class T>
LORIKEET_INLINE Key kth_largest(const T* x, int64_t n, int64_t k, int64_t& equal) {
  constexpr int kBits = sizeof(Key) * 8;
  Key prefix = 0, mask = 0;
  int high = kBits;
  while (high > 0) {
    int low = high > kDigitBits ? high - kDigitBits : 0;
    int32_t digits = 1 << (high - low);
    int64_t histogram[kDigits];
    for (int32_t d = 0; d < digits; ++d) histogram[d] = 0;
    for (int64_t i = 0; i < n; ++i) {
      Key key = key_of(load(x + i));
      if ((key & mask) == prefix) ++histogram[key >> low & static_cast<Key>(digits - 1)];
    }
    int32_t digit = digits - 1;
    while (histogram[digit] < k) k -= histogram[digit--];
    prefix |= static_cast<Key>(digit) << low;
    mask |= static_cast<Key>(digits - 1) << low;
    high = low;
  }
  equal = k;
  return prefix;
}

template <class T>
void select(const TopKArgs& a) {
  using Key = decltype(key_of(compute_t<T>{}));
  if (a.k == 0) return;
  for_each_row(a.rows, a.columns, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * a.columns;
    Scratch scratch(a.k * static_cast<int64_t>(sizeof(Entry<Key>)));
    auto entries = scratch.as<Entry<Key>>();
    int64_t equal = 0, found = 0;
    Key limit = kth_largest<Key>(x, a.columns, a.k, equal);
    for (int64_t i = 0; i < a.columns && found < a.k; ++i) {
      Key key = key_of(load(x + i));
      if (key < limit || (key == limit && equal == 0)) continue;
      if (key == limit) --equal;
      entries[found++] = {key, i};
    }
    sort(entries, a.k);
    for (int64_t j = 0; j < a.k; ++j) {
      static_cast<T*>(a.values)[row * a.k + j] = x[entries[j].index];
      a.indices[row * a.k + j] = entries[j].index;
    }
  });
}

void top_k(const TopKArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (select<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(top_k_kernel, lorikeet::LORIKEET_LEVEL::top_k)
