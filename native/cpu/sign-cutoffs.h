#pragma once

// Where codes begin, said of the values themselves: z = (w - μ) / (σ + ε) rises with w after rounding too, so that the code of w is the
// number of cutoffs below it, and no value is standardised.

#include "cpu/integers.h"
#include "cpu/sign-codes.h"
#include "ops/sign.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class C>
struct OrderedBits;
template <>
struct OrderedBits<float> {
  using Type = uint32_t;
};
template <>
struct OrderedBits<double> {
  using Type = uint64_t;
};

/// The bits of a number as an integer that rises with it, and back.
template <class C>
LORIKEET_INLINE typename OrderedBits<C>::Type ordered_bits(C x) {
  using U = typename OrderedBits<C>::Type;
  constexpr U kSign = U{1} << (8 * sizeof(U) - 1);
  const U bits = __builtin_bit_cast(U, x);
  return bits ^ ((bits & kSign) != 0 ? ~U{0} : kSign);
}
template <class C>
LORIKEET_INLINE C from_ordered_bits(typename OrderedBits<C>::Type key) {
  using U = typename OrderedBits<C>::Type;
  constexpr U kSign = U{1} << (8 * sizeof(U) - 1);
  return __builtin_bit_cast(C, key ^ ((key & kSign) != 0 ? kSign : ~U{0}));
}

template <class C>
struct SignCutoffs {
  using Key = typename OrderedBits<C>::Type;
  static constexpr int64_t kCells = 4096;
  static constexpr uint16_t kSeveral = 0x8000;

  int64_t count;  // of codes
  /// [count - 1]: the largest number whose z is not above threshold i; the others are infinite.
  alignas(64) C below[kMostSignValues];
  /// Of more than kFewValues codes: the cutoffs as integers, and their range in cells of one width. An entry has the number of cutoffs in
  /// the cells before, and the mark kSeveral where the cell itself has more than one.
  Key keys[kMostSignValues];
  C first, cells_per_unit;
  uint16_t cells[kCells];

  explicit SignCutoffs(const SignArgs& args) : count(args.book->count) {
    for (C& cutoff : below) cutoff = static_cast<C>(__builtin_inf());
    if (count == 2) {
      below[0] = static_cast<C>(args.mean);  // the sign of z is that of w - μ
      return;
    }
    find(static_cast<C>(args.mean), static_cast<C>(args.deviation) + static_cast<C>(kSignEpsilon), book_table<C>(*args.book).thresholds);
    if (count > kFewValues) fill_cells();
  }

  /// The cell of w. It does not fall where w rises.
  LORIKEET_INLINE int32_t cell_of(C w) const {
    const C place = (w - first) * cells_per_unit;
    constexpr C kLast = kCells - 1;
    return static_cast<int32_t>(place > 0 ? (place < kLast ? place : kLast) : C(0));
  }

  /// The code of a w in a cell, by its ordered bits.
  LORIKEET_INLINE uint8_t code_in(int32_t cell, Key w) const {
    const uint16_t entry = cells[cell];
    if ((entry & kSeveral) != 0) return static_cast<uint8_t>(search_code(w, keys));
    return static_cast<uint8_t>(entry + static_cast<uint16_t>(w > keys[entry]));
  }

 private:
  /// Halves the numbers between -inf and inf, for all thresholds at once.
  void find(C mean, C divisor, const C* thresholds) {
    Key low[kMostSignValues], high[kMostSignValues];
    for (int i = 0; i < kMostSignValues; ++i) {
      low[i] = ordered_bits(static_cast<C>(-__builtin_inf()));
      high[i] = ordered_bits(static_cast<C>(__builtin_inf()));
    }
    for (size_t step = 0; step < 8 * sizeof(Key); ++step) {
      for (int64_t i = 0; i + 1 < count; ++i) {
        const Key middle = low[i] + (high[i] - low[i]) / 2;
        const bool above = (from_ordered_bits<C>(middle) - mean) / divisor > thresholds[i];
        high[i] = above ? middle : high[i];
        low[i] = above ? low[i] : middle;
      }
    }
    for (int64_t i = 0; i + 1 < count; ++i) below[i] = from_ordered_bits<C>(low[i]);
  }

  void fill_cells() {
    const C last = below[count - 2];
    first = below[0];
    cells_per_unit = last > first ? static_cast<C>(kCells) / (last - first) : C(0);
    for (int i = 0; i < kMostSignValues; ++i) keys[i] = ordered_bits(below[i]);
    int64_t cutoff = 0;
    for (int32_t cell = 0; cell < kCells; ++cell) {
      const int64_t before = cutoff;
      while (cutoff + 1 < count && cell_of(below[cutoff]) == cell) ++cutoff;
      cells[cell] = static_cast<uint16_t>(static_cast<uint16_t>(before) | (cutoff - before > 1 ? kSeveral : 0));
    }
  }
};

/// The codes of a vector of w, a byte each, by comparing them with every cutoff.
template <class C>
LORIKEET_INLINE void store_codes(Vector<C> w, const SignCutoffs<C>& cutoffs, uint8_t* codes) {
#if defined(__AVX512F__)
  if constexpr (__is_same(C, float)) {
    const __m128i bytes = _mm512_maskz_cvtepi32_epi8(kAllLanes, few_codes((__m512)w, cutoffs.below, cutoffs.count));
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), bytes);
  }
#endif
  decltype(w > w) code{};
  for (int64_t i = 0; i + 1 < cutoffs.count; ++i) code -= w > splat(cutoffs.below[i]);
  for (int i = 0; i < kVectorWidth<C>; ++i) codes[i] = static_cast<uint8_t>(code[i]);
}

/// The codes of `count` values, a byte each, by the cells of cutoffs. Cells are found for many values before they are looked into, so that
/// what vectors store is there for loads of single ones.
template <class T>
LORIKEET_INLINE void codes_by_cells(const T* w, int64_t count, const SignCutoffs<compute_t<T>>& cutoffs, uint8_t* codes) {
  using C = compute_t<T>;
  constexpr int64_t kBatch = 512;
  alignas(64) C values[kBatch];
  alignas(64) typename SignCutoffs<C>::Key keys[kBatch];
  alignas(64) int32_t cells[kBatch];
  for (int64_t first = 0; first < count; first += kBatch) {
    const int64_t batch = smaller(kBatch, count - first);
    const C* own = values;
    if constexpr (__is_same(T, C)) {
      own = w + first;
    } else {
      for_each_vector<T>(batch, [&](int64_t at, int64_t valid) { store_vector(values + at, load_stored(w + first + at, valid)); });
    }
    for (int64_t i = 0; i < batch; ++i) {
      cells[i] = cutoffs.cell_of(own[i]);
      keys[i] = ordered_bits(own[i]);
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < batch; ++i) codes[first + i] = cutoffs.code_in(cells[i], keys[i]);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
