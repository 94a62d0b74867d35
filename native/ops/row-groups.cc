#include "ops/row-groups.h"

#include <cstring>

#include "core/parallel.h"
#include "ops/gemm.h"

namespace lorikeet {
namespace {

/// `size` bytes of every row of a group from `source` on, side by side; returns the end of them.
uint8_t* gather_part(const uint8_t* source, int64_t row_bytes, int64_t size, uint8_t* target) {
  for (int64_t row = 0; row < kRowGroup; ++row) std::memcpy(target + row * size, source + row * row_bytes, static_cast<size_t>(size));
  return target + kRowGroup * size;
}

}  // namespace

int64_t grouped_rows_of(Quantization format, int64_t rows) {
  const bool wanted = parts_of(format).words > 0 && panel_width(gemm_level(), Panel::f32, 2) == kRowGroup;
  return wanted ? rows / kRowGroup * kRowGroup : 0;
}

void group_rows(Quantization format, int64_t rows, int64_t row_bytes, uint8_t* codes) {
  const BlockParts parts = parts_of(format);
  const int64_t block_bytes = 2 * parts.halves + 4 * parts.words, group_bytes = kRowGroup * row_bytes;
  parallel_for(rows / kRowGroup, [&](int64_t group) {
    uint8_t* target = codes + group * group_bytes;
    Scratch memory(group_bytes);
    auto* source = memory.as<uint8_t>();
    std::memcpy(source, target, static_cast<size_t>(group_bytes));
    for (int64_t block = 0; block < row_bytes; block += block_bytes) {
      const uint8_t* part = source + block;
      for (int64_t i = 0; i < parts.halves; ++i, part += 2) target = gather_part(part, row_bytes, 2, target);
      for (int64_t i = 0; i < parts.words; ++i, part += 4) target = gather_part(part, row_bytes, 4, target);
    }
  });
}

}  // namespace lorikeet
