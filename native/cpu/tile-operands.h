#pragma once

// Left operands of the tile product (layout in cpu/tile-micro.h), and the low-rank parts of it: z = x · shrinkᵀ, and z as a left operand.

#include "cpu/block-terms.h"
#include "cpu/dropout-mask.h"
#include "cpu/tile-micro.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Element `i` of row `row` of a left block.
LORIKEET_INLINE BFloat16* tile_left_element(char* left, int64_t row, int64_t i) {
  return reinterpret_cast<BFloat16*>(left + i / kTileDepth * kLeftStepBytes + row * kTileRowBytes) + i % kTileDepth;
}

LORIKEET_INLINE void copy_to_bf16(BFloat16* target, const BFloat16* source, int64_t count) {
  memcpy(target, source, static_cast<size_t>(count) * sizeof(BFloat16));
}
LORIKEET_INLINE void copy_to_bf16(BFloat16* target, const float* source, int64_t count) {
  for (int64_t i = 0; i < count; ++i) target[i] = to_bf16(source[i]);
}

/// Rows of k elements each as the first rows of a left block, filled with zero to whole steps. Rows past `rows` stay undefined.
template <class T>
void pack_tile_rows(char* left, const T* x, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t k) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* source = x + row * row_stride;
    for (int64_t i = 0; i < k; i += kTileDepth) {
      BFloat16* target = tile_left_element(left, row, i);
      const int64_t count = k - i < kTileDepth ? k - i : kTileDepth;
      if (column_stride == 1) {
        copy_to_bf16(target, source + i, count);
      } else {
        for (int64_t j = 0; j < count; ++j) copy_to_bf16(target + j, source + (i + j) * column_stride, 1);
      }
      for (int64_t j = count; j < kTileDepth; ++j) target[j] = BFloat16{0};
    }
  }
}

/// The rows of one part of a left block as rows of `target`, dropped elements cleared.
LORIKEET_INLINE void copy_masked_rows(char* target, char* left, const BlockTerm& part, const DropoutMask& mask, int64_t k) {
  for (int64_t step = 0; step < tile_steps(k); ++step) {
    memcpy(target + step * kLeftStepBytes, left + step * kLeftStepBytes + part.row * kTileRowBytes, part.rows * kTileRowBytes);
  }
  for (int64_t row = 0; row < part.rows; ++row) {
    for_mask(mask.seed, mask.stream, mask.p, static_cast<uint64_t>((part.z_row + row) * k), k,
             [&](int64_t first, const uint32_t* keep, int64_t count) {
               for (int64_t j = 0; j < count; ++j) tile_left_element(target, row, first + j)->bits &= static_cast<uint16_t>(keep[j]);
             });
  }
}

/// z of one part of a left block: computed from it, stored to term.z, and packed as a left block for the expansion.
template <class Tiles>
void shrink_tile_rows(TileRegion<Tiles>& region, const GemmArgs& args, const BlockTerm& part, char* left, char* packed) {
  const LowRankTerm& term = args.terms[part.term];
  Scratch masked(term.mask_input ? tile_left_bytes(args.k) : 0);
  const char* rows = left + part.row * kTileRowBytes;
  if (term.mask_input) {
    copy_masked_rows(masked.as<char>(), left, part, term.mask, args.k);
    rows = masked.as<char>();
  }
  alignas(64) float c[kTileBlock * kTileBlock];
  LastStep last;
  auto* z = static_cast<float*>(term.z) + part.z_row * term.z_row_stride;
  const auto scale = static_cast<float>(term.shrink_scale);
  const int64_t stride = panel_stride(kThisLevel, Panel::bf16, args.k, 1);
  const int64_t column = term.shrink_column, end = column + term.rank;
  for (int64_t first = column / kTileHalf * kTileHalf; first < end; first += kTileHalf) {
    const char* panel = static_cast<const char*>(term.shrink) + first / kTileHalf * stride;
    const TileChain chain{rows, panel, args.k, last.of(panel, args.k, kTileRowBytes)};
    tile_product(region, part.rows, kTileHalf, 1, &chain, 1, c, false);
    const int64_t from = first > column ? first : column, to = end < first + kTileHalf ? end : first + kTileHalf;
    for (int64_t row = 0; row < part.rows; ++row) {
      for (int64_t j = from; j < to; ++j) z[row * term.z_row_stride + j - column] = c[row * kTileBlock + j - first] * scale;
    }
  }
  if (args.y != nullptr) pack_tile_rows(packed, z, term.z_row_stride, 1, part.rows, term.rank);
}

/// The chain of one part that expands its packed z to the outputs of panel `p`.
LORIKEET_INLINE TileChain expand_chain(const LowRankTerm& term, const char* packed, int64_t p, LastStep& last) {
  const char* panel = static_cast<const char*>(term.expand) + p * panel_stride(kThisLevel, Panel::bf16, term.rank, 2);
  return {packed, panel, term.rank, last.of(panel, term.rank, kPairBytes)};
}

/// Adds one part to its rows of the block c, for `columns` outputs from `first` on.
template <class Tiles>
void expand_tile_rows(TileRegion<Tiles>& region, const GemmArgs& args, const BlockTerm& part, const TileChain& chain, int64_t first,
                      int64_t columns, float* c) {
  const LowRankTerm& term = args.terms[part.term];
  float* rows = c + part.row * kTileBlock;
  if (!term.mask_output) return tile_product(region, part.rows, columns, 2, &chain, 1, rows, true);
  alignas(64) float product[kTileBlock * kTileBlock];
  tile_product(region, part.rows, columns, 2, &chain, 1, product, false);
  const auto scale = static_cast<float>(term.output_scale);
  for (int64_t row = 0; row < part.rows; ++row) {
    for_mask<kTileBlock>(term.mask.seed, term.mask.stream, term.mask.p, static_cast<uint64_t>((part.z_row + row) * args.n + first), columns,
                         [&](int64_t begin, const uint32_t* keep, int64_t count) {
                           const int64_t place = row * kTileBlock + begin;
                           for (int64_t j = 0; j < count; ++j) rows[place + j] += keep[j] != 0 ? product[place + j] * scale : 0.0f;
                         });
  }
}

/// Adds the bias of a term to the rows of one part.
LORIKEET_INLINE void add_term_bias(const LowRankTerm& term, const BlockTerm& part, int64_t first, int64_t columns, float* c) {
  if (term.bias == nullptr) return;
  const float* bias = static_cast<const float*>(term.bias) + first;
  for (int64_t row = part.row; row < part.row + part.rows; ++row) {
    for (int64_t j = 0; j < columns; ++j) c[row * kTileBlock + j] += bias[j];
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
