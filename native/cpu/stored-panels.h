#pragma once

// Panels of a right operand that is kept row-major, made when a product wants them; layouts in ops/gemm.h, bits those of packing the matrix
// or, `turned`, its transpose.

#include "cpu/gemm-pack.h"
#include "cpu/integers.h"
#include "cpu/transpose-rounds.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Contraction elements [begin, end), whole steps but for the last of all.
struct Contraction {
  int64_t begin, end;
};

/// Whether what a step takes of a row lies in the rows of W as it is.
LORIKEET_INLINE bool has_stored_words(const StoredMatrix& w, Panel panel) {
  return (panel == Panel::bf16 && w.dtype == DType::bf16) || (panel == Panel::f32 && w.dtype == DType::f32);
}

/// The rows of one panel as words; those past the end repeat the last one.
struct PanelWords {
  const char* rows[2][kVector];
  int64_t row_bytes;
  const char* next;    // the rows after these
  int64_t next_bytes;  // of the next panel

  PanelWords(const StoredMatrix& w, int64_t first) : row_bytes(w.columns * size_of(w.dtype)) {
    const auto* values = static_cast<const char*>(w.values);
    for (int64_t i = 0; i < 2 * kVector; ++i) rows[i / kVector][i % kVector] = values + smaller(first + i, w.rows - 1) * row_bytes;
    next = values + (first + 2 * kVector) * row_bytes;
    next_bytes = within(w.rows - first - 2 * kVector, 0, 2 * kVector) * row_bytes;
  }

  /// Brings in as much of the next panel as one square of each half is of this.
  LORIKEET_INLINE void prefetch(int64_t byte) const {
    const int64_t end = smaller(2 * kVector * (byte + kVectorBytes), next_bytes);
    for (int64_t i = 2 * kVector * byte; i < end; i += 64) __builtin_prefetch(next + i, 0, 2);
  }

  /// kVector words of one half, turned, from byte `byte` of the rows on; zero from byte `end` on.
  LORIKEET_INLINE void square(int half, int64_t byte, int64_t end, WordVector (&words)[kVector]) const {
    if (end - byte >= kVectorBytes) {
#pragma GCC unroll 16
      for (int i = 0; i < kVector; ++i) memcpy(&words[i], rows[half][i] + byte, kVectorBytes);
    } else {
      for (int i = 0; i < kVector; ++i) {
        words[i] = WordVector{};
        memcpy(&words[i], rows[half][i] + byte, static_cast<size_t>(end - byte));
      }
    }
    transpose_rounds<kVector / 2>(words);
  }
};

/// Bytes [begin, end) of the rows of a panel as its steps.
inline void stored_words(const PanelWords& source, int64_t begin, int64_t end, char* out) {
  for (int64_t byte = begin; byte < end; byte += kVectorBytes, out += 2 * kVector * kVectorBytes) {
    source.prefetch(byte);
    const int64_t steps = smaller(kVector, (end - byte + 3) / 4);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      WordVector words[kVector];
      source.square(half, byte, end, words);
      for (int64_t i = 0; i < steps; ++i) memcpy(out + (2 * i + half) * kVectorBytes, &words[i], kVectorBytes);
    }
  }
}

/// Rows of W that are on their way ahead of those that are turned.
inline constexpr int64_t kRowsAhead = 32;

/// Rows of W as steps of a panel of its transpose: each step takes `outputs` neighbours of a row, or of two.
template <int Depth>
LORIKEET_INLINE void turned_stored_rows(const char* source, int64_t row_bytes, int64_t rows, int64_t outputs, uint32_t* out) {
  constexpr int64_t kWidth = 2 * kVector;
  for (int64_t row = 0; row < rows; row += Depth, source += Depth * row_bytes, out += kWidth) {
    if (row + kRowsAhead < rows) {
      for (int i = 0; i < Depth; ++i) __builtin_prefetch(source + (kRowsAhead + i) * row_bytes);
    }
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
  if (has_stored_words(w, panel)) {
    const int64_t size = size_of(w.dtype);
    if (!turned) return stored_words({w, first}, part.begin * size, part.end * size, static_cast<char*>(out));
    auto* words = static_cast<uint32_t*>(out);
    return size == 2 ? turned_stored_rows<2>(values, w.columns * size, count, outputs, words)
                     : turned_stored_rows<1>(values, w.columns * size, count, outputs, words);
  }
  LORIKEET_FLOAT_SWITCH(w.dtype, T, {
    const T* source = reinterpret_cast<const T*>(values);
    pack_panel({source, w.dtype, outputs, count, output_stride, contraction_stride, 1.0, panel, 2, nullptr}, source, outputs, width, out);
  });
}

}  // namespace lorikeet::LORIKEET_LEVEL
