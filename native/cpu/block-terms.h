#pragma once

// The low-rank rows of a product cut at the borders of its left blocks, by block.

#include "cpu/integers.h"
#include "ops/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Rows [row, row + rows) of one left block take part in one term.
struct BlockTerm {
  int32_t term;
  int32_t row, rows;
  int64_t z_row;
  int64_t packed;  // place of its rows in the packed z, in bytes
};

class BlockTerms {
 public:
  /// Blocks of `block_rows` rows; packed_bytes(rank) is what the packed z of one part takes. Parts of a block keep the order of args.rows,
  /// and end with every `part_rows` rows of it (default: with the block alone).
  template <class PackedBytes>
  BlockTerms(const GemmArgs& args, int64_t block_rows, const PackedBytes& packed_bytes, int64_t part_rows = 0)
      : block_rows_(block_rows),
        part_rows_(part_rows > 0 ? part_rows : block_rows),
        starts_((ceil_blocks(args.m, block_rows) + 1) * static_cast<int64_t>(sizeof(int64_t))),
        terms_(count(args) * static_cast<int64_t>(sizeof(BlockTerm))) {
    const int64_t blocks = ceil_blocks(args.m, block_rows);
    auto* starts = starts_.as<int64_t>();
    auto* terms = terms_.as<BlockTerm>();
    for (int64_t b = 0; b <= blocks; ++b) starts[b] = 0;
    for_parts(args, [&](const LowRankRows&, int64_t block, int64_t, int64_t) { ++starts[block + 1]; });
    for (int64_t b = 0; b < blocks; ++b) starts[b + 1] += starts[b];
    for_parts(args, [&](const LowRankRows& rows, int64_t block, int64_t begin, int64_t end) {
      // starts[block] walks to the end of its block and is moved back below.
      terms[starts[block]++] = {rows.term, static_cast<int32_t>(begin - block * block_rows), static_cast<int32_t>(end - begin),
                                rows.z_row + begin - rows.row_begin, packed_bytes_};
      packed_bytes_ += packed_bytes(args.terms[rows.term].rank);
    });
    for (int64_t b = blocks; b > 0; --b) starts[b] = starts[b - 1];
    starts[0] = 0;
  }

  const BlockTerm* begin(int64_t block) const { return terms_.as<BlockTerm>() + starts_.as<int64_t>()[block]; }
  const BlockTerm* end(int64_t block) const { return begin(block + 1); }
  /// Of the packed z of all parts.
  int64_t packed_bytes() const { return packed_bytes_; }

 private:
  static int64_t ceil_blocks(int64_t rows, int64_t block_rows) { return (rows + block_rows - 1) / block_rows; }

  template <class Body>
  LORIKEET_INLINE void for_parts(const GemmArgs& args, const Body& body) const {
    for (int64_t i = 0; i < args.row_count; ++i) {
      const LowRankRows& rows = args.rows[i];
      for (int64_t begin = rows.row_begin; begin < rows.row_end;) {
        const int64_t block = begin / block_rows_, first = block * block_rows_;
        const int64_t part_end = first + smaller(block_rows_, ((begin - first) / part_rows_ + 1) * part_rows_);
        const int64_t end = smaller(part_end, rows.row_end);
        body(rows, block, begin, end);
        begin = end;
      }
    }
  }

  int64_t count(const GemmArgs& args) const {
    int64_t parts = 0;
    for_parts(args, [&](const LowRankRows&, int64_t, int64_t, int64_t) { ++parts; });
    return parts;
  }

  const int64_t block_rows_, part_rows_;
  Scratch starts_, terms_;
  int64_t packed_bytes_ = 0;
};

}  // namespace lorikeet::LORIKEET_LEVEL
