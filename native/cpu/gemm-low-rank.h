#pragma once

// The low-rank part of one product: z = x · shrinkᵀ of the terms of a left block, and z packed for the extra steps of the main tile.

#include "cpu/block-terms.h"
#include "cpu/dropout-mask.h"
#include "cpu/gemm-pack.h"
#include "cpu/integers.h"

namespace lorikeet::LORIKEET_LEVEL {

/// The rows of one part of a left block with dropped elements cleared.
template <class Kind>
LeftView masked_rows(const LowRankTerm& term, const BlockTerm& part, const LeftView& left, int64_t k, void* memory) {
  using Element = typename Kind::Element;
  using Word = typename Kind::Word;
  const int64_t words = steps_of<Kind>(k) * Kind::kWords, row_bytes = words * static_cast<int64_t>(sizeof(Word));
  for (int64_t row = 0; row < part.rows; ++row) {
    char* target = static_cast<char*>(memory) + row * row_bytes;
    const char* source = left.data + (part.row + row) * left.row_stride;
    if (left.word_stride == sizeof(Word)) {
      memcpy(target, source, row_bytes);
    } else {
      for (int64_t w = 0; w < words; ++w) memcpy(target + w * sizeof(Word), source + w * left.word_stride, sizeof(Word));
    }
    auto* elements = reinterpret_cast<Element*>(target);
    for_mask(term.mask.seed, term.mask.stream, term.mask.p, static_cast<uint64_t>((part.z_row + row) * k), k,
             [&](int64_t first, const uint32_t* keep, int64_t count) {
               for (int64_t j = 0; j < count; ++j) elements[first + j] = keep[j] != 0 ? elements[first + j] : Element{};
             });
  }
  return {static_cast<const char*>(memory), row_bytes, sizeof(Word)};
}

/// Two stores of what is in registers: reading z back before it has left them as wide as it is read would wait for the cache.
template <int64_t Width, class Kind>
LORIKEET_INLINE void write_z(const typename Kind::Accumulator* __restrict__ sums, typename Kind::Accumulator scale, int64_t columns,
                             typename Kind::Accumulator* __restrict__ z, typename Kind::Element* __restrict__ packed) {
  const int64_t count = Width > 0 ? Width : columns;  // a constant where it can be
  for (int64_t j = 0; j < count; ++j) z[j] = sums[j] * scale;
  if (packed == nullptr) return;
  for (int64_t j = 0; j < count; ++j) {
    const typename Kind::Accumulator value = sums[j] * scale;
    packed[j] = as_element<Kind>(&value);
  }
}

/// Where some columns of a product with shrink panels go: the z of the rows of one part, and `packed` as left rows, unless null.
struct Shrunk {
  const LowRankTerm* term;
  int64_t z_row;
  char* packed;
};

/// The columns of `to` among those of `tile`, the product of `rows` rows with the shrink panel at column `first`.
template <class Kind>
LORIKEET_INLINE void write_shrunk(const Shrunk& to, const typename Kind::Accumulator* tile, int64_t rows, int64_t first) {
  using Accumulator = typename Kind::Accumulator;
  using Element = typename Kind::Element;
  constexpr int64_t kWidth = kVectorBytes / sizeof(Accumulator);
  const LowRankTerm& term = *to.term;
  const int64_t begin = first > term.shrink_column ? first : term.shrink_column, last = term.shrink_column + term.rank;
  const int64_t columns = (last < first + kWidth ? last : first + kWidth) - begin, place = begin - term.shrink_column;
  if (columns <= 0) return;
  const auto scale = static_cast<Accumulator>(term.shrink_scale);
  const int64_t packed_width = steps_of<Kind>(term.rank) * Kind::kDepth;
  for (int64_t row = 0; row < rows; ++row) {
    const Accumulator* sums = tile + row * 2 * kWidth + begin - first;
    auto* z = static_cast<Accumulator*>(term.z) + (to.z_row + row) * term.z_row_stride + place;
    auto* elements = to.packed == nullptr ? nullptr : reinterpret_cast<Element*>(to.packed) + row * packed_width + place;
    if (columns == kWidth) {
      write_z<kWidth, Kind>(sums, scale, columns, z, elements);
    } else if (columns == kWidth / 2) {
      write_z<kWidth / 2, Kind>(sums, scale, columns, z, elements);
    } else {
      write_z<0, Kind>(sums, scale, columns, z, elements);
    }
    if (elements != nullptr && place + columns == term.rank && packed_width > term.rank) elements[columns] = Element{};
  }
}

/// z of `count` terms that share their panels, in any order, for `rows` rows of `left`, the first of a block.
template <class Kind>
void shrink_rows(const GemmArgs& args, const LeftView& left, int64_t rows, const Shrunk* to, int64_t count) {
  using Accumulator = typename Kind::Accumulator;
  constexpr int64_t kWidth = kVectorBytes / sizeof(Accumulator);
  alignas(64) Accumulator tile[kTileBytes / sizeof(Accumulator)];
  const int64_t stride = panel_stride(kThisLevel, panel_for(args.arithmetic), args.k, 1), steps = steps_of<Kind>(args.k);
  const Micro product = micro_for<Kind, 1>(rows);
  Ahead next;  // the rows of the next block, where they follow
  if (rows == kRows && steps > 0) next = {left.data + kRows * left.row_stride, kRows * left.row_stride / steps};
  int64_t begin = to[0].term->shrink_column, end = begin;
  for (int64_t i = 0; i < count; ++i) {
    begin = smaller(begin, to[i].term->shrink_column);
    end = larger(end, to[i].term->shrink_column + to[i].term->rank);
  }
  begin = begin / kWidth * kWidth;
  for (int64_t first = begin; first < end; first += kWidth) {
    const Strip strip = strip_of(steps, left, static_cast<const char*>(to[0].term->shrink) + first / kWidth * stride);
    product(&strip, 1, {tile, false}, first == begin ? next : Ahead{});
    for (int64_t i = 0; i < count; ++i) write_shrunk<Kind>(to[i], tile, rows, first);
  }
}

/// z of one term for its rows of one block: computed from the left block, stored to term.z and as left rows at `packed`.
template <class Kind>
void shrink_block(const GemmArgs& args, const BlockTerm& part, const LeftView& block, char* packed) {
  const LowRankTerm& term = args.terms[part.term];
  Scratch masked(term.mask_input ? left_bytes<Kind>(args.k) : 0);
  const LeftView left = term.mask_input ? masked_rows<Kind>(term, part, block, args.k, masked.as<void>()) : block.from_row(part.row);
  const Shrunk to{&term, part.z_row, args.y == nullptr ? nullptr : packed};
  shrink_rows<Kind>(args, left, part.rows, &to, 1);
}

/// The left rows that shrink_block left at `packed`.
template <class Kind>
LORIKEET_INLINE LeftView packed_z(const char* packed, int64_t rank) {
  return {packed, steps_of<Kind>(rank) * Kind::kWords * static_cast<int64_t>(sizeof(typename Kind::Word)), sizeof(typename Kind::Word)};
}

/// The steps that add one term to panel `p` (two vectors wide) of its rows.
template <class Kind>
LORIKEET_INLINE Strip expand_strip(const GemmArgs& args, const BlockTerm& part, const char* packed, int64_t p) {
  const LowRankTerm& term = args.terms[part.term];
  const int64_t stride = panel_stride(kThisLevel, panel_for(args.arithmetic), term.rank, 2);
  return strip_of(steps_of<Kind>(term.rank), packed_z<Kind>(packed, term.rank), static_cast<const char*>(term.expand) + p * stride);
}

/// Adds one term to the rows of a main tile: panel `p` of its expand, its bias.
template <class Kind>
void expand_tile(const GemmArgs& args, const BlockTerm& part, const char* packed, int64_t p, typename Kind::Accumulator* tile) {
  using Accumulator = typename Kind::Accumulator;
  constexpr int64_t kWidth = 2 * kVectorBytes / sizeof(Accumulator);
  const LowRankTerm& term = args.terms[part.term];
  const int64_t first = p * kWidth;
  const int64_t columns = args.n - first < kWidth ? args.n - first : kWidth;
  Accumulator* rows = tile + part.row * kWidth;
  const Strip strip = expand_strip<Kind>(args, part, packed, p);
  const Micro block = micro_for<Kind, 2>(part.rows);
  if (!term.mask_output) {
    block(&strip, 1, {rows, true}, {});
  } else {
    alignas(64) Accumulator product[kTileBytes / sizeof(Accumulator)];
    block(&strip, 1, {product, false}, {});
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
