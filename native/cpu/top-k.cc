#include "ops/top-k.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"

// Floats become unsigned keys of the same order (NaN largest, -0 = +0). A radix select over 8-bit digits, from the top, finds the k-th
// largest key; the keys that still match shrink from digit to digit. One pass then collects the larger keys and the first of the equal
// ones, and a heap sort orders them by key, then by place. The loops have no branch on the data, which is random to the processor.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

LORIKEET_INLINE uint32_t key_of(float value) {
  uint32_t bits = float_to_bits(value + 0.0f);  // -0 becomes +0
  uint32_t key = bits ^ ((0u - (bits >> 31)) | 0x80000000u);
  return value != value ? ~0u : key;
}

LORIKEET_INLINE uint64_t key_of(double value) {
  double positive = value + 0.0;
  uint64_t bits;
  __builtin_memcpy(&bits, &positive, sizeof bits);
  uint64_t key = bits ^ ((uint64_t{0} - (bits >> 63)) | uint64_t{1} << 63);
  return value != value ? ~uint64_t{0} : key;
}

constexpr int kDigitBits = 8;
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

/// The k-th largest of n keys (k >= 1); `equal` receives how many keys equal to it belong to the k largest. `rest` has room for n keys.
template <class Key>
LORIKEET_INLINE Key kth_largest(const Key* keys, int64_t n, int64_t k, Key* rest, int64_t& equal) {
  Key limit = 0;
  for (int low = static_cast<int>(sizeof(Key)) * 8 - kDigitBits; low >= 0; low -= kDigitBits) {
    int64_t histogram[kDigits] = {};
    for (int64_t i = 0; i < n; ++i) ++histogram[keys[i] >> low & (kDigits - 1)];
    int digit = kDigits - 1;
    while (histogram[digit] < k) k -= histogram[digit--];
    limit |= static_cast<Key>(digit) << low;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      Key key = keys[i];
      rest[kept] = key;
      kept += (key >> low & (kDigits - 1)) == static_cast<Key>(digit) ? 1 : 0;
    }
    keys = rest;
    n = kept;
  }
  equal = k;
  return limit;
}

template <class T>
void select(const TopKArgs& a) {
  using Key = decltype(key_of(compute_t<T>{}));
  if (a.k == 0) return;
  for_each_row(a.rows, a.columns, [&](int64_t row) {
    const T* x = static_cast<const T*>(a.x) + row * a.columns;
    Scratch key_memory(2 * (a.columns + 1) * static_cast<int64_t>(sizeof(Key)));
    Scratch entry_memory((a.k + 1) * static_cast<int64_t>(sizeof(Entry<Key>)));
    Key* keys = key_memory.as<Key>();
    auto entries = entry_memory.as<Entry<Key>>();
    for (int64_t i = 0; i < a.columns; ++i) keys[i] = key_of(load(x + i));
    int64_t equal = 0, found = 0;
    Key limit = kth_largest(keys, a.columns, a.k, keys + a.columns + 1, equal);
    for (int64_t i = 0; i < a.columns; ++i) {
      Key key = keys[i];
      int64_t ties = static_cast<int64_t>(key == limit) & static_cast<int64_t>(equal > 0);
      equal -= ties;
      entries[found] = {key, i};
      found += static_cast<int64_t>(key > limit) + ties;
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
