#pragma once

#include <type_traits>

#include "cpu/attention-products.h"
#include "cpu/integers.h"
#include "cpu/vector-exp.h"

// Attention of up to kMostFewRows query rows, as when one token is generated: lanes are keys while scores are made, and columns while
// values are summed, so that a register is full whatever the number of rows. Each element takes the steps that a larger tile takes for it,
// in the same order: its bits are the same.

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kMostFewRows = 8;

template <int R>
struct RowCount {
  static constexpr int value = R;
};

/// How keys and weights enter the products: one by one, or (bf16 where in_pairs) two at a time. A word is what one step takes.
template <class T, class C>
struct FewProduct {
#if defined(__AVX512BF16__)
  static constexpr bool kPairs = __is_same(T, BFloat16);
#else
  static constexpr bool kPairs = false;
#endif
  static constexpr int kWidth = kVectorWidth<C>;
  static constexpr int64_t kDepth = kPairs ? 2 : 1;  // columns or keys in a word

  LORIKEET_INLINE static Vector<C> add(Vector<C> word, Vector<C> vector, Vector<C> sum) {
#if defined(__AVX512BF16__)
    if constexpr (kPairs) return (Vector<C>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)word, (__m512bh)vector);
#endif
    return fma(word, vector, sum);
  }
};

/// R rows, the last of which may be padding.
template <class T, class C, int R>
struct FewQueries {
  using Product = FewProduct<T, C>;
  static constexpr int kWidth = kVectorWidth<C>;
  static constexpr int kRegisters = kSimdBytes == 64 ? 32 : 16;
  /// Vectors of columns whose sums are under way together.
  static constexpr int kColumns = R * 4 <= kRegisters / 2 ? 4 : R * 2 <= kRegisters / 2 ? 2 : 1;
  static constexpr int64_t kAhead = 2 * kBlockKeys;
  static constexpr int kLanes = (R + kWidth - 1) / kWidth * kWidth;
  /// What the memory of keys and values is read as.
  using Stored = std::conditional_t<Product::kPairs, BFloat16, C>;

  const AttentionArgs& a;
  const Tile& tile;
  C* queries;                      // [R][words of the width]
  C* gathered;                     // [R][width]
  int64_t from = 0, to = a.width;  // columns of the values that are summed
  alignas(64) C most[kLanes]{}, sum[kLanes]{}, shrink[kLanes]{};
  alignas(64) C scores[R][kBlockKeys]{};

  /// scores[row][key] of kWidth keys from `key` on, `count` of which exist.
  LORIKEET_INLINE void score_strip(const Stored* keys, int64_t stride, int64_t key, int64_t count) {
    const int64_t words = a.width / Product::kDepth;
    Vector<C> sums[R]{};
    for (int64_t first = 0; first < words; first += kWidth) {
      Vector<C> square[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        const int64_t row = i < count ? i : count - 1;
        square[i] = load_vector(reinterpret_cast<const C*>(keys + row * stride) + first);
      }
      transpose_rounds<kWidth / 2>(square);
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; ++c) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[r] = Product::add(splat(queries[r * words + first + c]), square[c], sums[r]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store_vector(scores[r] + key, sums[r]);
  }

  /// What finish_scores does, and -infinity for keys from `count` on.
  void finish(int64_t key, int64_t count) {
    const C hidden = -static_cast<C>(__builtin_inff());
    for (int r = 0; r < R; ++r) {
      if (a.softcap > 0) {
        const C cap = static_cast<C>(a.softcap), inverse = static_cast<C>(a.scale / a.softcap);
        for (int64_t j = 0; j < count; ++j) scores[r][j] = cap * vtanh(scores[r][j] * inverse);
      } else if (!(a.scale > 0)) {
        for (int64_t j = 0; j < count; ++j) scores[r][j] *= static_cast<C>(a.scale);
      }
      for (int64_t j = count; j < kBlockKeys; ++j) scores[r][j] = hidden;
    }
    if (tile.every_key && tile.common_from <= key && tile.common_to >= key + count) return;
    const int64_t place = tile.batch * a.keys + key;
    for (int64_t r = 0; r < tile.rows; ++r) {
      for (int64_t j = 0; j < count; ++j) {
        const bool seen = key + j >= tile.from[r] && key + j < tile.to[r] && (a.key_mask == nullptr || a.key_mask[place + j] != 0) &&
                          (a.documents == nullptr || a.documents[place + j] == tile.document[r]);
        scores[r][j] = seen ? scores[r][j] : hidden;
      }
    }
  }

  /// Scores become weights relative to the new maxima, in words; what was gathered before is scaled down to these.
  void weigh() {
    constexpr int kDegree = __is_same(T, BFloat16) ? 4 : 6;
    const C factor = exponent_factor<C>(a), none = -static_cast<C>(__builtin_inff());
    alignas(64) C added[kLanes]{}, reference[kLanes]{};
    for (int r = 0; r < R; ++r) {
      Vector<C> top = load_vector(scores[r]);
      for (int64_t j = kWidth; j < kBlockKeys; j += kWidth) top = larger(load_vector(scores[r] + j), top);
      C largest = top[0];
      for (int i = 1; i < kWidth; ++i) largest = top[i] > largest ? top[i] : largest;
      largest *= factor;
      const C before = most[r];
      most[r] = largest > before ? largest : before;
      // A row that has seen no key yet has m = -infinity; 0 stands in for it, and all its weights are 0.
      reference[r] = most[r] == none ? C(0) : most[r];
      shrink[r] = before - reference[r];
    }
    bool shrinks = false;
    for (int lane = 0; lane < kLanes; lane += kWidth) store_vector(shrink + lane, exp2_of<kDegree>(load_vector(shrink + lane)));
    for (int r = 0; r < R; ++r) shrinks |= shrink[r] != C(1);
    for (int r = 0; r < R; ++r) {
      for (int64_t j = 0; j < kBlockKeys; j += kWidth) {
        store_vector(scores[r] + j, exp2_of<kDegree>(fma(load_vector(scores[r] + j), splat(factor), splat(-reference[r]))));
      }
    }
    C even[R]{}, odd[R]{};
    for (int64_t j = 0; j < kBlockKeys; j += 2) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        even[r] += scores[r][j];
        odd[r] += scores[r][j + 1];
      }
    }
    for (int r = 0; r < R; ++r) added[r] = even[r] + odd[r];
    for (int lane = 0; lane < kLanes; lane += kWidth) {
      store_vector(sum + lane, fma(load_vector(sum + lane), load_vector(shrink + lane), load_vector(added + lane)));
    }
    if (shrinks) {
      for (int r = 0; r < R; ++r) {
        for (int64_t c = from; c < to; c += kWidth) {
          store_vector(gathered + r * a.width + c, load_vector(gathered + r * a.width + c) * splat(shrink[r]));
        }
      }
    }
#if defined(__AVX512BF16__)
    if constexpr (Product::kPairs) {
      for (int r = 0; r < R; ++r) {
        auto* words = reinterpret_cast<BFloat16*>(scores[r]);
        for (int64_t j = 0; j < kBlockKeys; j += kWidth) store_stored(words + j, load_vector(scores[r] + j));
      }
    }
#endif
  }

  /// N vectors of the columns of a word of keys; `last` when it has one key only.
  template <int N>
  LORIKEET_INLINE static void value_word(const Stored* row, int64_t stride, bool last, Vector<C> (&word)[N]) {
#if defined(__AVX512BF16__)
    if constexpr (Product::kPairs) {
      alignas(64) uint32_t pairs[N * kWidth];
      pair_rows(row, last ? nullptr : row + stride, N * kWidth, pairs);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) word[n] = load_vector(reinterpret_cast<const C*>(pairs) + n * kWidth);
      return;
    }
#endif
    (void)stride, (void)last;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) word[n] = load_vector(reinterpret_cast<const C*>(row) + n * kWidth);
  }

  template <int N>
  LORIKEET_INLINE void add_columns(const Stored* values, int64_t stride, int64_t count, int64_t column) {
    Vector<C> total[R][N];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) total[r][n] = load_vector(gathered + r * a.width + column + n * kWidth);
    }
    for (int64_t j = 0; j < count; j += Product::kDepth) {
      Vector<C> word[N];
      value_word<N>(values + j * stride + column, stride, j + 1 == count, word);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vector<C> weight = splat(scores[r][j / Product::kDepth]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) total[r][n] = Product::add(weight, word[n], total[r][n]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) store_vector(gathered + r * a.width + column + n * kWidth, total[r][n]);
    }
  }

  void add_values(const Stored* values, int64_t stride, int64_t count) {
    int64_t column = from;
    for (; column + kColumns * kWidth <= to; column += kColumns * kWidth) add_columns<kColumns>(values, stride, count, column);
    if constexpr (kColumns > 2) {
      for (; column + 2 * kWidth <= to; column += 2 * kWidth) add_columns<2>(values, stride, count, column);
    }
    for (; column < to; column += kWidth) add_columns<1>(values, stride, count, column);
  }

  /// The rows of the tile as words, zeros for padding.
  void gather() {
    const T* q = static_cast<const T*>(a.q);
    for (int64_t i = 0; i < R * a.width; ++i) gathered[i] = C(0);
    for (int64_t i = 0; i < R * a.width / Product::kDepth; ++i) queries[i] = C(0);
    for (int64_t row = 0; row < tile.rows; ++row) {
      const T* from = q + tile.offset(row, a.q_strides);
      C* words = queries + row * (a.width / Product::kDepth);
      if constexpr (__is_same(Stored, T)) {
        __builtin_memcpy(words, from, static_cast<size_t>(a.width) * sizeof(T));
      } else {
        for (int64_t c = 0; c < a.width; c += kWidth) store_vector(words + c, load_stored(from + c));
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      most[lane] = -static_cast<C>(__builtin_inff());
    }
  }

  /// `count` rows of keys or values as they are multiplied: the memory itself or `room`.
  static const Stored* stored(const T* rows, int64_t stride, int64_t count, int64_t width, C* room, int64_t& out_stride) {
    if constexpr (Product::kPairs) {
      out_stride = stride;
      return rows;
    } else {
      return rows_as<T, C>(rows, stride, count, width, room, out_stride);
    }
  }

  /// Asks memory for columns [first, last) of rows [begin, end). Evenly on the way and well ahead, since few of these are under way at a
  /// time.
  LORIKEET_INLINE void ask(const T* rows, int64_t stride, int64_t begin, int64_t end, int64_t first, int64_t last) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t key = begin; key < end && key < tile.all_to; ++key) {
      for (int64_t c = first; c < last; c += kLine) __builtin_prefetch(rows + key * stride + c, 0, 2);
    }
  }
  LORIKEET_INLINE void ask_keys(int64_t begin, int64_t end) const { ask(keys(), a.k_strides[1], begin, end, 0, a.width); }
  LORIKEET_INLINE void ask_values(int64_t begin, int64_t end) const { ask(values(), a.v_strides[1], begin, end, from, to); }

  const T* keys() const { return static_cast<const T*>(a.k) + tile.batch * a.k_strides[0] + tile.group * a.k_strides[2]; }
  const T* values() const { return static_cast<const T*>(a.v) + tile.batch * a.v_strides[0] + tile.group * a.v_strides[2]; }

  /// The scores of a key block; `before_strip(key)` is called before every kWidth keys.
  template <class Before>
  LORIKEET_INLINE void score_block(int64_t key, int64_t count, C* room, const Before& before_strip) {
    int64_t stride;
    const Stored* block = stored(keys() + key * a.k_strides[1], a.k_strides[1], count, a.width, room, stride);
    for (int64_t j = 0; j < count; j += kWidth) {
      before_strip(key + j);
      score_strip(block + j * stride, stride, j, count - j);
    }
    finish(key, count);
  }

  /// Adds a key block, whose scores are there, to the sums.
  LORIKEET_INLINE void add_block(int64_t key, int64_t count, C* room) {
    weigh();
    int64_t stride;
    const Stored* block = stored(values() + key * a.v_strides[1], a.v_strides[1], count, a.width, room, stride);
    add_values(block, stride, count);
  }

  void run(C* room) {
    gather();
    ask_keys(tile.all_from, tile.all_from + kAhead);
    ask_values(tile.all_from, tile.all_from + kAhead);
    for_each_key_block(a, tile, [&](int64_t key, int64_t count) {
      score_block(key, count, room, [&](int64_t at) {
        ask_keys(at + kAhead, at + kAhead + kWidth);
        ask_values(at + kAhead, at + kAhead + kWidth);
      });
      add_block(key, count, room);
    });
    write();
  }

  /// The scores of the key blocks [begin, end) of the tile, as kept[block - first block of the tile][R][kBlockKeys].
  void score_part(int64_t begin, int64_t end, C* kept, C* room) {
    gather();
    const int64_t first = tile.all_from / kBlockKeys;
    ask_keys((first + begin) * kBlockKeys, (first + begin) * kBlockKeys + kAhead);
    for_each_key_block(a, tile, [&](int64_t key, int64_t count) {
      const int64_t block = key / kBlockKeys - first;
      if (block < begin || block >= end) return;
      score_block(key, count, room, [&](int64_t at) { ask_keys(at + kAhead, smaller(at + kAhead + kWidth, (first + end) * kBlockKeys)); });
      __builtin_memcpy(kept + block * R * kBlockKeys, scores, sizeof scores);
    });
  }

  /// Columns [from, to) of the outputs from all scores of the tile.
  void sum_part(const C* kept, C* room) {
    gather();
    ask_values(tile.all_from, tile.all_from + kAhead);
    for_each_key_block(a, tile, [&](int64_t key, int64_t count) {
      __builtin_memcpy(scores, kept + (key / kBlockKeys - tile.all_from / kBlockKeys) * R * kBlockKeys, sizeof scores);
      ask_values(key + kAhead, key + kAhead + kBlockKeys);
      add_block(key, count, room);
    });
    write();
  }

  void write() {
    constexpr C kLn2 = static_cast<C>(0.69314718055994530942);
    const int64_t strides[3] = {a.queries * a.heads * a.width, a.heads * a.width, a.width};
    for (int64_t row = 0; row < tile.rows; ++row) {
      const bool none = sum[row] == C(0);
      if (a.lse != nullptr && from == 0) {
        static_cast<C*>(a.lse)[tile.lse_place(row, a)] = none ? -static_cast<C>(__builtin_inff()) : fma(most[row], kLn2, vlog(sum[row]));
      }
      const Vector<C> factor = splat(none ? C(0) : C(1) / sum[row]);
      T* out = static_cast<T*>(a.out) + tile.offset(row, strides);
      for (int64_t c = from; c < to; c += kWidth) store_stored(out + c, load_vector(gathered + row * a.width + c) * factor);
    }
  }
};

/// Whether a tile is one for this file.
template <class T>
LORIKEET_INLINE bool is_few(const AttentionArgs& a, const Tile& tile) {
  using C = compute_t<T>;
  return tile.rows <= kMostFewRows && a.width % (kVectorWidth<C> * FewProduct<T, C>::kDepth) == 0;
}

template <class T, int R>
void few_queries(const AttentionArgs& a, const Tile& tile) {
  using C = compute_t<T>;
  Scratch scratch((2 * R * a.width + key_room_size<C>(a.width)) * static_cast<int64_t>(sizeof(C)));
  C *queries = scratch.as<C>(), *gathered = queries + R * a.width;
  FewQueries<T, C, R>{a, tile, queries, gathered}.run(gathered + R * a.width);
}

/// Calls few(RowCount<R>) for the R that holds `rows` rows.
template <class Few>
LORIKEET_INLINE void for_few_rows(int64_t rows, const Few& few) {
  switch (rows) {
    case 1: return few(RowCount<1>{});
    case 2: return few(RowCount<2>{});
    case 3: return few(RowCount<3>{});
    case 4: return few(RowCount<4>{});
    default: return few(RowCount<8>{});
  }
}

template <class T>
void few_queries(const AttentionArgs& a, const Tile& tile) {
  for_few_rows(tile.rows, [&](auto count) { few_queries<T, count.value>(a, tile); });
}

}  // namespace lorikeet::LORIKEET_LEVEL
