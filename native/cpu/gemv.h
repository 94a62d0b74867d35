#pragma once

// The packed product for a few rows of x, where all the time goes into reading W once: y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms +
// bias with M <= kFewRows. Rows of x lie one after the other; some panels are read side by side, so that enough chains are under way to
// hide the latency of one. Each output is the chain that a block of many rows computes (ops/gemm.h), so its bits are the same.

#include "cpu/gemm-micro.h"
#include "cpu/gemm-pack.h"
#include "cpu/gemv-blocks.h"
#include "cpu/gemv-stored.h"
#include "cpu/quantized-slices.h"
#include "cpu/sign-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kFewRows = 4;
inline constexpr int kVectorRegisters = kVectorBytes == 64 ? 32 : 16;
/// Panels (two vectors wide) read side by side for R rows: their sums fill half of the registers at most.
template <int R>
inline constexpr int kPanelsTogether = R == 1 && kVectorRegisters == 32 ? 4
                                       : kVectorRegisters / 4 / R > 1   ? 2
                                                                        : 1;

/// How a kind of product takes its step: `Left` elements, kLeft of them a step, of one row of x, and NV vectors of a panel.
template <class Kind>
struct FewStep {
  using Left = typename Kind::Accumulator;
  static constexpr int64_t kLeft = 1;
  template <int NV>
  LORIKEET_INLINE static void add(typename Kind::Vector (&sum)[NV], const Left* left, const typename Kind::Vector* right) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) sum[j] = multiply_add(splat(*left), right[j], sum[j]);
  }
};

template <>
struct FewStep<KindWiden> {
  using Left = float;
  static constexpr int64_t kLeft = 2;
  template <int NV>
  LORIKEET_INLINE static void add(FloatVector (&sum)[NV], const Left* left, const FloatVector* right) {
    const auto* pairs = reinterpret_cast<const WordVector*>(right);
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      sum[j] = multiply_add(splat(left[0]), (FloatVector)(pairs[j] << 16), sum[j]);
      sum[j] = multiply_add(splat(left[1]), (FloatVector)(pairs[j] & 0xffff0000u), sum[j]);
    }
  }
};

#if defined(__AVX512BF16__)
template <>
struct FewStep<KindPairs> {
  using Left = uint32_t;
  static constexpr int64_t kLeft = 1;
  template <int NV>
  LORIKEET_INLINE static void add(FloatVector (&sum)[NV], const Left* left, const FloatVector* right) {
    const auto a = (__m512bh)_mm512_set1_epi32(static_cast<int>(*left));
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) sum[j] = (FloatVector)_mm512_dpbf16_ps((__m512)sum[j], a, (__m512bh)right[j]);
  }
};
#endif

/// tile[panel][row][NV vectors] (+)= R rows times P panels that lie `panel_bytes` apart.
template <class Kind, int R, int NV, int P>
void few_rows_block(int64_t steps, const typename FewStep<Kind>::Left* left, int64_t left_stride, const char* panels, int64_t panel_bytes,
                    typename Kind::Vector* tile, bool accumulate) {
  using Vector = typename Kind::Vector;
  Vector sum[P][R][NV];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) sum[p][r][j] = accumulate ? tile[(p * R + r) * NV + j] : Vector{};
    }
  }
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const auto* right = reinterpret_cast<const Vector*>(panels + p * panel_bytes) + step * NV;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) FewStep<Kind>::template add<NV>(sum[p][r], left + r * left_stride, right);
    }
    left += FewStep<Kind>::kLeft;
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) tile[(p * R + r) * NV + j] = sum[p][r][j];
    }
  }
}

/// A row of x as the left operand of Kind, `steps` whole steps long.
template <class Kind, class T>
void pack_few_row(const T* x, int64_t column_stride, int64_t k, int64_t steps, typename FewStep<Kind>::Left* left) {
  if constexpr (Kind::kDepth == 2 && FewStep<Kind>::kLeft == 1) {
    for (int64_t i = 0; i < k / 2; ++i) left[i] = pair_of(as_bf16(x + 2 * i * column_stride), as_bf16(x + (2 * i + 1) * column_stride));
    if (k % 2) left[k / 2] = pair_of(as_bf16(x + (k - 1) * column_stride), BFloat16{0});
  } else {
    for (int64_t i = 0; i < k; ++i) left[i] = static_cast<typename FewStep<Kind>::Left>(load(x + i * column_stride));
    for (int64_t i = k; i < steps * FewStep<Kind>::kLeft; ++i) left[i] = 0;
  }
}

/// R rows. Main is the kind of the base product, Extra that of the low-rank terms.
template <class Main, class Extra, int R>
struct FewRows {
  using Left = typename FewStep<Main>::Left;
  using Accumulator = typename Main::Accumulator;
  using Vector = typename Main::Vector;
  static constexpr int64_t kLane = kVectorBytes / sizeof(Accumulator), kWidth = 2 * kLane;
  static constexpr int P = kPanelsTogether<R>;

  const GemmArgs& args;
  const Accumulator* bias;
  Left* left;  // [R][left_stride]
  int64_t left_stride;
  Left* packed_z;  // of each entry of args.rows, [rows][z_stride of its term]

  static int64_t z_stride(const LowRankTerm& term) { return steps_of<Extra>(term.rank) * FewStep<Extra>::kLeft; }

  /// z of the rows of one entry, stored and packed.
  void shrink(const LowRankRows& part, Left* packed) const {
    const LowRankTerm& term = args.terms[part.term];
    const int64_t stride = panel_stride(kThisLevel, panel_for(args.arithmetic), args.k, 1);
    const auto scale = static_cast<Accumulator>(term.shrink_scale);
    for (int64_t row = part.row_begin; row < part.row_end; ++row) {
      auto* z = static_cast<Accumulator*>(term.z) + (part.z_row + row - part.row_begin) * term.z_row_stride;
      const Left* x = left + row * left_stride;
      const int64_t column = term.shrink_column, last = column + term.rank;
      for (int64_t first = column / kLane * kLane; first < last;) {
        alignas(64) Accumulator tile[4 * kLane];
        const char* panels = static_cast<const char*>(term.shrink) + first / kLane * stride;
        const bool four = first + 3 * kLane < last;
        if (four) {
          few_rows_block<Extra, 1, 1, 4>(steps_of<Extra>(args.k), x, 0, panels, stride, reinterpret_cast<Vector*>(tile), false);
        } else {
          few_rows_block<Extra, 1, 1, 1>(steps_of<Extra>(args.k), x, 0, panels, stride, reinterpret_cast<Vector*>(tile), false);
        }
        const int64_t end = smaller(first + (four ? 4 : 1) * kLane, last);
        for (int64_t j = first > column ? first : column; j < end; ++j) z[j - column] = tile[j - first] * scale;
        first = end;
      }
      pack_few_row<Extra>(z, 1, term.rank, steps_of<Extra>(term.rank), packed + (row - part.row_begin) * z_stride(term));
    }
  }

  /// Adds the terms and the bias to the tile [R][kWidth] of a panel and stores it.
  void finish(int64_t panel, Accumulator* tile) const {
    const int64_t first = panel * kWidth, columns = smaller(kWidth, args.n - first);
    const Left* packed = packed_z;
    for (int64_t i = 0; i < args.row_count; ++i) {
      const LowRankRows& part = args.rows[i];
      const LowRankTerm& term = args.terms[part.term];
      const char* expand =
          static_cast<const char*>(term.expand) + panel * panel_stride(kThisLevel, panel_for(args.arithmetic), term.rank, 2);
      for (int64_t row = part.row_begin; row < part.row_end; ++row, packed += z_stride(term)) {
        Accumulator* sums = tile + row * kWidth;
        few_rows_block<Extra, 1, 2, 1>(steps_of<Extra>(term.rank), packed, 0, expand, 0, reinterpret_cast<Vector*>(sums), true);
        const auto* own = static_cast<const Accumulator*>(term.bias);
        for (int64_t j = 0; own != nullptr && j < columns; ++j) sums[j] += own[first + j];
      }
    }
    for (int64_t row = 0; row < R; ++row) {
      Accumulator* sums = tile + row * kWidth;
      for (int64_t j = 0; bias != nullptr && j < columns; ++j) sums[j] += bias[first + j];
      LORIKEET_FLOAT_SWITCH(args.y_dtype, T, {
        T* y = static_cast<T*>(args.y) + row * args.y_row_stride + first;
        for (int64_t j = 0; j < columns; ++j) store(y + j, static_cast<compute_t<T>>(sums[j]));
      });
    }
  }

  /// The tile of a panel of a quantised W without a copy of its values, where that is possible; else false.
  bool fill_from_registers(int64_t panel, Vector* tile) const {
#if defined(__AVX512F__)
    const QuantizedMatrix& w = args.right.quantized;
    if constexpr (__is_same(Main, KindPlain<float>)) {
      if ((panel + 1) * kWidth > w.grouped_rows) return false;
      const uint8_t* codes = w.codes + panel * kWidth * w.row_bytes;
      LORIKEET_QUANTIZATION_SWITCH(
          w.format, Groups, if constexpr (!__is_same(TurnedGroup<Groups>, void)) {
            BlockRows<TurnedGroup<Groups>, R>{codes, left, left_stride}.multiply(args.k / kQuantizedGroup, tile);
            return true;
          })
    }
#endif
    (void)panel, (void)tile;
    return false;
  }

  /// Whether panels are read from bits, two at a time.
  bool reads_signs() const {
#if defined(__AVX512F__)
    return !__is_same(Accumulator, double) && args.right.is_quantized() && has_sign_words(args.right.quantized);
#else
    return false;
#endif
  }

  /// The tile of N whole panels from their bits, where W has them; else false.
  template <int N>
  bool fill_from_signs(int64_t panel, Vector* tile) const {
#if defined(__AVX512F__)
    if constexpr (!__is_same(Accumulator, double) && N <= 2) {
      if (!reads_signs() || (panel + N) * kWidth > args.right.quantized.rows) return false;
      sign_few_rows<Main, R, N>(args.right.quantized, panel * kWidth, left, left_stride, tile);
      return true;
    }
#endif
    (void)panel, (void)tile;
    return false;
  }

  /// The tile of N panels of a quantised W, slice by slice; what the next N panels need is on its way meanwhile.
  template <int N>
  void fill_from_blocks(int64_t panel, Vector* tile) const {
    const QuantizedMatrix& w = args.right.quantized;
    alignas(64) char slices[N * kSliceBytes];
    PanelRows rows[N];
    for (int p = 0; p < N; ++p) rows[p].set(w, (panel + p) * kWidth);
    const int64_t ahead = N * kWidth * w.row_bytes, groups = (args.k + kQuantizedGroup - 1) / kQuantizedGroup;
    const uint8_t* next = w.codes + rows[0].index[0] * w.row_bytes + ahead;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t column = group * kQuantizedGroup, count = smaller(kQuantizedGroup, args.k - column);
      for (int64_t i = ahead * group / groups; i < ahead * (group + 1) / groups; i += 64) __builtin_prefetch(next + i);
      for (int p = 0; p < N; ++p) quantized_slice(w, args.right.panel, rows[p], column, count, slices + p * kSliceBytes);
      few_rows_block<Main, R, 2, N>(steps_of<Main>(count), left + column / Main::kDepth * FewStep<Main>::kLeft, left_stride, slices,
                                    kSliceBytes, tile, group > 0);
    }
    if (groups == 0) few_rows_block<Main, R, 2, N>(0, left, left_stride, slices, kSliceBytes, tile, false);
  }

  /// The tile of a panel of a W in rows.
  void fill_from_rows(int64_t panel, Vector* tile) const {
    const StoredMatrix& w = args.right.stored;
    if constexpr (!__is_same(Accumulator, double)) {
      if (has_stored_words(w, args.right.panel)) {
        return stored_few_rows<FewStep<Main>, R>({w, panel * kWidth}, left, left_stride, tile);
      }
    }
    alignas(64) char slice[kSliceBytes];
    for (int64_t begin = 0; begin == 0 || begin < args.k; begin += kQuantizedGroup) {
      const int64_t end = smaller(begin + kQuantizedGroup, args.k);
      stored_steps(w, false, {begin, end}, args.right.panel, panel, slice);
      few_rows_block<Main, R, 2, 1>(steps_of<Main>(end - begin), left + begin / Main::kDepth * FewStep<Main>::kLeft, left_stride, slice, 0,
                                    tile, begin > 0);
    }
  }

  /// N panels from `panel` on, in one go.
  template <int N>
  void fill(int64_t panel) const {
    alignas(64) Accumulator tile[N * R * kWidth];
    auto* vectors = reinterpret_cast<Vector*>(tile);
    const RightOperand& right = args.right;
    if (right.is_quantized()) {
      if (!fill_from_signs<N>(panel, vectors) && (N != 1 || !fill_from_registers(panel, vectors))) fill_from_blocks<N>(panel, vectors);
    } else if (right.is_stored()) {
      for (int p = 0; p < N; ++p) fill_from_rows(panel + p, vectors + p * R * 2);
    } else {
      const int64_t stride = panel_stride(kThisLevel, right.panel, args.k, 2);
      few_rows_block<Main, R, 2, N>(steps_of<Main>(args.k), left, left_stride, static_cast<const char*>(right.panels) + panel * stride,
                                    stride, vectors, false);
    }
    for (int p = 0; p < N; ++p) finish(panel + p, tile + p * R * kWidth);
  }

  void run() const {
    Left* packed = packed_z;
    for (int64_t i = 0; i < args.row_count; ++i) {
      shrink(args.rows[i], packed);
      packed += (args.rows[i].row_end - args.rows[i].row_begin) * z_stride(args.terms[args.rows[i].term]);
    }
    const int64_t panels = (args.n + kWidth - 1) / kWidth, threads = thread_count();
    // One share for each thread, or more of them where they are long. The cut does not change a bit of the result.
    const int64_t panel_bytes =
        args.right.is_quantized() ? kWidth * args.right.quantized.row_bytes : panel_stride(kThisLevel, args.right.panel, args.k, 2);
    const int64_t long_shares = panels * panel_bytes / (threads << 18);
    const int64_t shares = threads * (long_shares < 1 ? 1 : smaller(long_shares, 8));
    const int64_t share = (panels + shares - 1) / shares;
    for_tasks(args.k * args.n < (1 << 16), (panels + share - 1) / share, [&](int64_t task) {
      const int64_t end = smaller((task + 1) * share, panels);
      int64_t panel = task * share;
      // Rows of blocks are streams of their own: more than those of one panel do not stay in the level-1 cache.
      for (; !args.right.is_made() && panel + P <= end; panel += P) fill<P>(panel);
      for (; reads_signs() && panel + 2 <= end; panel += 2) fill<2>(panel);
      for (; panel < end; ++panel) fill<1>(panel);
    });
  }
};

template <class Main, class Extra, int R>
void run_few_rows(const GemmArgs& args, const typename Main::Accumulator* bias) {
  using Left = typename FewStep<Main>::Left;
  const int64_t steps = steps_of<Main>(args.k), stride = steps * FewStep<Main>::kLeft;
  int64_t z_elements = 0;
  for (int64_t i = 0; i < args.row_count; ++i) {
    z_elements += (args.rows[i].row_end - args.rows[i].row_begin) * FewRows<Main, Extra, R>::z_stride(args.terms[args.rows[i].term]);
  }
  Scratch memory((R * stride + z_elements) * static_cast<int64_t>(sizeof(Left)));
  auto* left = memory.as<Left>();
  LORIKEET_FLOAT_SWITCH(
      args.x_dtype, T, for (int64_t row = 0; row < R; ++row) {
        pack_few_row<Main>(static_cast<const T*>(args.x) + row * args.x_row_stride, args.x_column_stride, args.k, steps,
                           left + row * stride);
      });
  FewRows<Main, Extra, R>{args, bias, left, stride, left + R * stride}.run();
}

/// Whether the product is one for this file: few rows, all of y wanted, nothing dropped, W as it lies.
LORIKEET_INLINE bool has_few_rows(const GemmArgs& args) {
  if (args.m > kFewRows || args.y == nullptr || args.right.empty() || args.right.turned || args.right.retile) return false;
  for (int64_t i = 0; i < args.term_count; ++i) {
    if (args.terms[i].mask_input || args.terms[i].mask_output) return false;
  }
  return true;
}

/// The product of args that has_few_rows holds for; `bias` is its bias in the type of the sums, or null.
template <class Main, class Extra>
void few_rows(const GemmArgs& args, const typename Main::Accumulator* bias) {
  switch (args.m) {
    case 1: return run_few_rows<Main, Extra, 1>(args, bias);
    case 2: return run_few_rows<Main, Extra, 2>(args, bias);
    case 3: return run_few_rows<Main, Extra, 3>(args, bias);
    case 4: return run_few_rows<Main, Extra, 4>(args, bias);
    default: return;
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
