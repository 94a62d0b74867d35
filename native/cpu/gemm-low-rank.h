#pragma once

// The low-rank part of one product: which terms meet which left block, their z = x · shrinkᵀ, and z packed for the extra steps of the main
// tile.

#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Rows [row, row + rows) of one left block take part in one term.
struct BlockTerm {
  int32_t term;
  int32_t row, rows;
  int64_t z_row;
  int64_t packed;  // offset of z[rank][kRows] in the packed z, in elements of the left operand
};

/// The rows of `args` cut at block borders, by block: terms of block b are [starts[b], starts[b + 1]).
struct LowRankPlan {
  int64_t* starts;
  BlockTerm* terms;
  int64_t packed_elements;
};

LORIKEET_INLINE int64_t count_block_terms(const GemmArgs& args) {
  int64_t count = 0;
  for (int64_t i = 0; i < args.row_count; ++i) {
    const LowRankRows& rows = args.rows[i];
    if (rows.row_end > rows.row_begin) count += (rows.row_end - 1) / kRows - rows.row_begin / kRows + 1;
  }
  return count;
}

/// Fills a plan whose arrays have blocks + 1 and count_block_terms entries. Stable: terms of a block keep the order of args.rows.
template <class Kind>
void make_plan(const GemmArgs& args, int64_t blocks, LowRankPlan& plan) {
  for (int64_t b = 0; b <= blocks; ++b) plan.starts[b] = 0;
  auto for_cuts = [&](auto body) __attribute__((always_inline)) {
    for (int64_t i = 0; i < args.row_count; ++i) {
      const LowRankRows& rows = args.rows[i];
      for (int64_t begin = rows.row_begin; begin < rows.row_end;) {
        const int64_t block = begin / kRows;
        const int64_t end = (block + 1) * kRows < rows.row_end ? (block + 1) * kRows : rows.row_end;
        body(rows, block, begin, end);
        begin = end;
      }
    }
  };
  for_cuts([&](const LowRankRows&, int64_t block, int64_t, int64_t) __attribute__((always_inline)) { ++plan.starts[block + 1]; });
  for (int64_t b = 0; b < blocks; ++b) plan.starts[b + 1] += plan.starts[b];
  plan.packed_elements = 0;
  for_cuts([&](const LowRankRows& rows, int64_t block, int64_t begin, int64_t end) __attribute__((always_inline)) {
    // starts[block] walks to the end of its block and is moved back below.
    plan.terms[plan.starts[block]++] = BlockTerm{rows.term, static_cast<int32_t>(begin - block * kRows), static_cast<int32_t>(end - begin),
                                                 rows.z_row + begin - rows.row_begin, plan.packed_elements};
    plan.packed_elements += steps_of<Kind>(args.terms[rows.term].rank) * Kind::kLeftRows * kRows;
  });
  for (int64_t b = blocks; b > 0; --b) plan.starts[b] = plan.starts[b - 1];
  plan.starts[0] = 0;
}

/// Clears the dropped elements [first, first + count) of one row of a left block.
template <class Kind>
LORIKEET_INLINE void mask_left(typename Kind::Left* left, int64_t row, int64_t first, const uint32_t* keep, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    if constexpr (Kind::kDepth == 2 && Kind::kLeftRows == 1) {
      left[(first + j) / 2 * kRows + row] &= keep[j] | ((first + j) % 2 != 0 ? 0x0000ffffu : 0xffff0000u);
    } else {
      auto& element = left[(first + j) * kRows + row];
      element = keep[j] != 0 ? element : 0;
    }
  }
}

/// z of one term for its rows of one block: computed from the left block, stored to term.z and packed as a left block at `packed`.
template <class Kind>
void shrink_block(const GemmArgs& args, const BlockTerm& part, const typename Kind::Left* left, typename Kind::Left* packed) {
  using Left = typename Kind::Left;
  using Accumulator = typename Kind::Accumulator;
  constexpr int64_t kWidth = kVectorBytes / sizeof(Accumulator);
  const LowRankTerm& term = args.terms[part.term];
  const int64_t block_elements = steps_of<Kind>(args.k) * Kind::kLeftRows * kRows;
  Scratch masked(term.mask_input ? block_elements * static_cast<int64_t>(sizeof(Left)) : 0);
  if (term.mask_input) {
    auto* copy = masked.as<Left>();
    memcpy(copy, left, block_elements * sizeof(Left));
    for (int64_t row = 0; row < part.rows; ++row) {
      for_mask(term.mask.seed, term.mask.stream, term.mask.p, static_cast<uint64_t>((part.z_row + row) * args.k), args.k,
               [&](int64_t first, const uint32_t* keep, int64_t count) { mask_left<Kind>(copy, part.row + row, first, keep, count); });
    }
    left = copy;
  }
  alignas(64) Accumulator tile[kTileBytes / sizeof(Accumulator)];
  const auto scale = static_cast<Accumulator>(term.shrink_scale);
  const int64_t stride = panel_stride(kThisLevel, panel_for(args.arithmetic), args.k, 1);
  const Micro block = micro_for<Kind, 1>(part.rows);
  for (int64_t first = 0; first < term.rank; first += kWidth) {
    block(steps_of<Kind>(args.k), left + part.row, static_cast<const char*>(term.shrink) + first / kWidth * stride, tile, false);
    const int64_t columns = term.rank - first < kWidth ? term.rank - first : kWidth;
    for (int64_t row = 0; row < part.rows; ++row) {
      auto* z = static_cast<Accumulator*>(term.z) + (part.z_row + row) * term.rank + first;
      for (int64_t j = 0; j < columns; ++j) z[j] = tile[row * 2 * kWidth + j] * scale;
    }
  }
  if (args.y != nullptr) {
    pack_left<Kind>(packed + part.row, static_cast<const Accumulator*>(term.z) + part.z_row * term.rank, term.rank, 1, part.rows,
                    term.rank);
  }
}

/// Adds one term to the rows of a main tile: panel `p` (two vectors wide) of its expand, its bias, for output columns first...
template <class Kind>
void expand_tile(const GemmArgs& args, const BlockTerm& part, const typename Kind::Left* packed, int64_t p,
                 typename Kind::Accumulator* tile) {
  using Accumulator = typename Kind::Accumulator;
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);
  const LowRankTerm& term = args.terms[part.term];
  const void* panel = static_cast<const char*>(term.expand) + p * panel_stride(kThisLevel, panel_for(args.arithmetic), term.rank, 2);
  const int64_t first = p * kWidth;
  const int64_t columns = args.n - first < kWidth ? args.n - first : kWidth;
  Accumulator* rows = tile + part.row * kWidth;
  const Micro block = micro_for<Kind, 2>(part.rows);
  if (!term.mask_output) {
    block(steps_of<Kind>(term.rank), packed + part.row, panel, rows, true);
  } else {
    alignas(64) Accumulator product[kTileBytes / sizeof(Accumulator)];
    block(steps_of<Kind>(term.rank), packed + part.row, panel, product, false);
    const auto scale = static_cast<Accumulator>(term.output_scale);
    for (int64_t row = 0; row < part.rows; ++row) {
      for_mask<kWidth>(term.mask.seed, term.mask.stream, term.mask.p, static_cast<uint64_t>((part.z_row + row) * args.n + first), columns,
                       [&](int64_t begin, const uint32_t* keep, int64_t count) {
                         const int64_t place = row * kWidth + begin;
                         for (int64_t j = 0; j < count; ++j) rows[place + j] += keep[j] != 0 ? product[place + j] * scale : Accumulator(0);
                       });
    }
  }
  if (term.bias != nullptr) {
    const auto* bias = static_cast<const Accumulator*>(term.bias) + first;
    for (int64_t row = 0; row < part.rows; ++row) {
      for (int64_t j = 0; j < columns; ++j) rows[row * kWidth + j] += bias[j];
    }
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
