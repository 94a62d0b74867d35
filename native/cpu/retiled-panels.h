#pragma once

// Panels of the transpose of a packed right operand, made from its panels when a product wants them; layouts in ops/gemm.h, bits those of
// packing the transpose. And panels of any right operand that is not packed as a product wants it.

#include "cpu/quantized-panels.h"
#include "cpu/sign-panels.h"
#include "cpu/stored-panels.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Panels of W [outputs, contraction], two vectors wide.
struct PackedMatrix {
  const char* panels;
  int64_t outputs, contraction;
};

/// The outputs of W, a multiple of kVector to begin with, whose steps of a panel of the transpose are made.
struct Outputs {
  int64_t begin, end;
};

/// A square brings that of so many outputs further into the cache: squares of different panels lie far apart.
inline constexpr int64_t kOutputsAhead = 128;

/// Words [kVector][kVector] of steps [step, step + kVector) and outputs [output, output + kVector), turned: a row for each output. Zero
/// past the last step.
template <int Depth>
LORIKEET_INLINE void turned_square(const PackedMatrix& w, int64_t output, int64_t step, WordSquare& square) {
  constexpr int64_t kWidth = 2 * kVector;
  const int64_t steps = (w.contraction + Depth - 1) / Depth;
  const auto* panel = reinterpret_cast<const uint32_t*>(w.panels) + output / kWidth * kWidth * steps;
  for (int64_t i = 0; i < kVector; ++i) {
    if (step + i < steps) {
      if (output + kOutputsAhead < w.outputs) __builtin_prefetch(panel + kOutputsAhead * steps + (step + i) * kWidth + output % kWidth);
      memcpy(square.rows[i], panel + (step + i) * kWidth + output % kWidth, kVector * sizeof(uint32_t));
    } else {
      zero_words(square.rows[i]);
    }
  }
  transpose_square(square);
}

LORIKEET_INLINE void retile_f32(const PackedMatrix& w, Outputs outputs, int64_t panel, uint32_t* out) {
  constexpr int64_t kWidth = 2 * kVector;
  for (int64_t n = outputs.begin; n < outputs.end; n += kVector) {
    const int64_t rows = smaller(kVector, outputs.end - n);
    for (int64_t half = 0; half < kWidth; half += kVector) {
      WordSquare square;
      turned_square<1>(w, n, panel * kWidth + half, square);
      for (int64_t i = 0; i < rows; ++i) memcpy(out + (n - outputs.begin + i) * kWidth + half, square.rows[i], kVector * sizeof(uint32_t));
    }
  }
}

/// Two neighbouring outputs are the halves of a word: their rows of the square are zipped.
LORIKEET_INLINE void retile_bf16(const PackedMatrix& w, Outputs outputs, int64_t panel, uint32_t* out) {
  constexpr int64_t kWidth = 2 * kVector;
  static_assert(kVector % 2 == 0);
  for (int64_t n = outputs.begin; n < outputs.end; n += kVector) {
    const int64_t rows = smaller(kVector, outputs.end - n);
    WordSquare square;
    turned_square<2>(w, n, panel * kVector, square);
    for (int64_t i = 0; i < rows; i += 2) {
      uint16_t low[kWidth], high[kWidth];
      memcpy(low, square.rows[i], sizeof low);
      memcpy(high, square.rows[i + 1], sizeof high);
      uint32_t* words = out + (n - outputs.begin + i) / 2 * kWidth;
      for (int64_t j = 0; j < kWidth; ++j) words[j] = low[j] | (static_cast<uint32_t>(high[j]) << 16);
    }
  }
}

LORIKEET_INLINE void retile_f64(const PackedMatrix& w, Outputs outputs, int64_t panel, double* out) {
  constexpr int64_t kWidth = kVector;
  const auto* source = reinterpret_cast<const double*>(w.panels);
  for (int64_t n = outputs.begin; n < outputs.end; ++n) {
    const double* from = source + n / kWidth * kWidth * w.contraction + n % kWidth;
    for (int64_t j = 0; j < kWidth; ++j) {
      const int64_t step = panel * kWidth + j;
      out[(n - outputs.begin) * kWidth + j] = step < w.contraction ? from[step * kWidth] : 0;
    }
  }
}

/// The steps of some outputs of W in panel `p` (two vectors wide) of its transpose.
LORIKEET_INLINE void retiled_steps(const PackedMatrix& w, Outputs outputs, Panel panel, int64_t p, void* out) {
  if (panel == Panel::f64) {
    retile_f64(w, outputs, p, static_cast<double*>(out));
  } else if (panel == Panel::f32) {
    retile_f32(w, outputs, p, static_cast<uint32_t*>(out));
  } else {
    retile_bf16(w, outputs, p, static_cast<uint32_t*>(out));
  }
}

/// Steps of panel `p` of the transpose of a right operand: those of the outputs `part` of W, a multiple of kVector to begin with. `k` is
/// the contraction of the product, `n` its outputs.
LORIKEET_INLINE void turned_steps(const RightOperand& right, int64_t k, int64_t n, Contraction part, int64_t p, void* out) {
  if (right.is_stored()) return stored_steps(right.stored, true, part, right.panel, p, out);
  retiled_steps({static_cast<const char*>(right.panels), k, n}, {part.begin, part.end}, right.panel, p, out);
}

/// The same in panels [p_begin, p_end), `stride` bytes apart. Panels that lie side by side in W are read together.
inline void turned_panels(const RightOperand& right, int64_t k, int64_t n, Contraction part, int64_t p_begin, int64_t p_end, char* out,
                          int64_t stride) {
  const int64_t step_bytes = 2 * kVectorBytes, depth = right.panel == Panel::bf16 ? 2 : 1, width = 2 * kVector;
  for (int64_t begin = part.begin; begin < part.end; begin += width) {
    char* steps = out + (begin - part.begin) / depth * step_bytes;
    const Contraction rows{begin, smaller(begin + width, part.end)};
    for (int64_t p = p_begin; p < p_end; ++p, steps += stride) turned_steps(right, k, n, rows, p, steps);
  }
}

/// Panel `p` of a right operand whose panels are made on the fly, for a product with `k` steps of contraction and `n` outputs.
LORIKEET_INLINE void make_panel(const RightOperand& right, int64_t k, int64_t n, int64_t p, void* out) {
  if (right.is_quantized()) {
#if defined(__AVX512F__)
    if (sign_panel(right.quantized, right.turned, right.panel, p, out)) return;
#endif
    quantized_panel(right.quantized, right.turned, right.panel, p, out);
  } else if (right.is_stored()) {
    stored_steps(right.stored, right.turned, {0, k}, right.panel, p, out);
  } else {
    turned_steps(right, k, n, {0, k}, p, out);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
