#pragma once

// Panels of a right operand that is kept row-major, made when a product wants them; layouts in ops/gemm.h, bits those of packing the matrix
// or, `turned`, its transpose.

#include "cpu/gemm-pack.h"
#include "cpu/integers.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Contraction elements [begin, end), whole steps but for the last of all.
struct Contraction {
  int64_t begin, end;
};

/// Rows of W as steps of a panel of its transpose: each step takes `outputs` neighbours of a row, or of two.
template <int Depth>
LORIKEET_INLINE void turned_stored_rows(const char* source, int64_t row_bytes, int64_t rows, int64_t outputs, uint32_t* out) {
  constexpr int64_t kWidth = 2 * kVector;
  for (int64_t row = 0; row < rows; row += Depth, source += Depth * row_bytes, out += kWidth) {
    if constexpr (Depth == 1) {
      if (outputs < kWidth) memset(out, 0, kWidth * sizeof(uint32_t));
      memcpy(out, source, (outputs < kWidth ? outputs : kWidth) * sizeof(uint32_t));
    } else {
      uint16_t low[kWidth] = {}, high[kWidth] = {};
      if (outputs == kWidth && row + 1 < rows) {
        memcpy(low, source, sizeof low);
        memcpy(high, source + row_bytes, sizeof high);
      } else {
        memcpy(low, source, outputs * sizeof(uint16_t));
        if (row + 1 < rows) memcpy(high, source + row_bytes, outputs * sizeof(uint16_t));
      }
      for (int64_t j = 0; j < kWidth; ++j) out[j] = low[j] | (static_cast<uint32_t>(high[j]) << 16);
    }
  }
}

/// The steps of `part` in panel `p` (two vectors wide).
inline void stored_steps(const StoredMatrix& w, bool turned, Contraction part, Panel panel, int64_t p, void* out) {
  const int64_t width = panel_width(kThisLevel, panel, 2), first = p * width, count = part.end - part.begin;
  const int64_t outputs = smaller(width, (turned ? w.columns : w.rows) - first);
  const int64_t output_stride = turned ? 1 : w.columns, contraction_stride = turned ? w.columns : 1;
  const int64_t place = first * output_stride + part.begin * contraction_stride;
  const auto* values = static_cast<const char*>(w.values) + place * size_of(w.dtype);
  if (turned && w.dtype == DType::bf16 && panel == Panel::bf16) {
    return turned_stored_rows<2>(values, w.columns * 2, count, outputs, static_cast<uint32_t*>(out));
  }
  if (turned && w.dtype == DType::f32 && panel == Panel::f32) {
    return turned_stored_rows<1>(values, w.columns * 4, count, outputs, static_cast<uint32_t*>(out));
  }
  LORIKEET_FLOAT_SWITCH(w.dtype, T, {
    const T* source = reinterpret_cast<const T*>(values);
    pack_panel({source, w.dtype, outputs, count, output_stride, contraction_stride, 1.0, panel, 2, nullptr}, source, outputs, width, out);
  });
}

}  // namespace lorikeet::LORIKEET_LEVEL
