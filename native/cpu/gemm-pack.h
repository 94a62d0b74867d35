#pragma once

// Packing of both operands of a product, shared by the kernels that use it. Words are what a step of the contraction takes of one row: an
// f32, or a pair of bf16. Operands that lie along the contraction are packed by squares of words turned in registers.

#include <cstring>

#include "cpu/gemm-micro.h"
#include "cpu/transpose.h"

namespace lorikeet::LORIKEET_LEVEL {

/// Two bf16 values as one word, the lower contraction index in the lower half.
LORIKEET_INLINE uint32_t pair_of(BFloat16 low, BFloat16 high) { return low.bits | (static_cast<uint32_t>(high.bits) << 16); }

template <class T>
LORIKEET_INLINE BFloat16 as_bf16(const T* p) {
  return to_bf16(static_cast<float>(load(p)));
}
LORIKEET_INLINE BFloat16 as_bf16(const BFloat16* p) { return *p; }

/// What a step takes of one row: `Depth` contraction elements as one word.
template <int Depth>
struct Word;

template <>
struct Word<1> {
  template <class T>
  LORIKEET_INLINE static uint32_t at(const T* p, int64_t, float scale) {
    return float_to_bits(static_cast<float>(load(p)) * scale);
  }
  /// The word of a last, incomplete step.
  template <class T>
  LORIKEET_INLINE static uint32_t last(const T* p, float scale) {
    return at(p, 0, scale);
  }
};

template <>
struct Word<2> {
  template <class T>
  LORIKEET_INLINE static uint32_t at(const T* p, int64_t stride, float scale) {
    return pair_of(to_bf16(static_cast<float>(load(p)) * scale), to_bf16(static_cast<float>(load(p + stride)) * scale));
  }
  template <class T>
  LORIKEET_INLINE static uint32_t last(const T* p, float scale) {
    return pair_of(to_bf16(static_cast<float>(load(p)) * scale), BFloat16{0});
  }
};

template <int Depth, class T>
LORIKEET_INLINE void convert_words(const T* source, int64_t count, float scale, uint32_t* words) {
  if constexpr (Depth == 1) {
    for (int64_t i = 0; i < count; ++i) words[i] = float_to_bits(static_cast<float>(load(source + i)) * scale);
  } else {
    // Neighbours in memory are the halves of a word: both are little-endian.
    uint16_t halves[kVector * 2];
    for (int64_t i = 0; i < count; ++i) halves[i] = to_bf16(static_cast<float>(load(source + i)) * scale).bits;
    memcpy(words, halves, static_cast<size_t>(count) * sizeof(uint16_t));
  }
}

/// Words of steps [first, first + kVector) of a row that lies along the contraction; zero past its k elements.
template <int Depth, class T>
LORIKEET_INLINE void row_words(const T* row, int64_t first, int64_t k, float scale, uint32_t* words) {
  constexpr int64_t kWhole = kVector * Depth;
  const T* source = row + first * Depth;
  const int64_t rest = k - first * Depth;
  if (rest < kWhole) {
    memset(words, 0, kVector * sizeof(uint32_t));
    if (rest > 0) convert_words<Depth>(source, rest, scale, words);
    return;
  }
  if constexpr ((Depth == 1 && __is_same(T, float)) || (Depth == 2 && __is_same(T, BFloat16))) {
    if (scale == 1) {
      memcpy(words, source, kVector * sizeof(uint32_t));
      return;
    }
  }
  convert_words<Depth>(source, kWhole, scale, words);
}

LORIKEET_INLINE void zero_words(uint32_t* words) { memset(words, 0, kVector * sizeof(uint32_t)); }

template <class Kind, class T>
LORIKEET_INLINE typename Kind::Element as_element(const T* p) {
  if constexpr (sizeof(typename Kind::Element) == 2) {
    return as_bf16(p);
  } else {
    return static_cast<typename Kind::Element>(load(p));
  }
}

/// Bytes of a left block: kRows rows of a contraction of length k.
template <class Kind>
constexpr int64_t left_bytes(int64_t k) {
  return steps_of<Kind>(k) * Kind::kDepth * static_cast<int64_t>(sizeof(typename Kind::Element)) * kRows;
}

/// Copies `rows` <= kRows rows that lie along the contraction, filled with zero to a whole number of steps.
template <class Kind, class T>
LeftView copy_left_rows(void* block, const T* x, int64_t row_stride, int64_t rows, int64_t k) {
  using Element = typename Kind::Element;
  const int64_t width = steps_of<Kind>(k) * Kind::kDepth;
  auto* target = static_cast<Element*>(block);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) target[row * width + i] = as_element<Kind>(x + row * row_stride + i);
    for (int64_t i = k; i < width; ++i) target[row * width + i] = Element{};
  }
  return {static_cast<const char*>(block), width * static_cast<int64_t>(sizeof(Element)), sizeof(typename Kind::Word)};
}

/// Copies `rows` <= kRows rows that lie along the contraction so that the words of a step lie side by side, by squares of words.
template <class Kind, class T>
void turn_left(void* block, const T* x, int64_t row_stride, int64_t rows, int64_t k) {
  constexpr int kElements = sizeof(typename Kind::Word) / sizeof(typename Kind::Element);
  auto* words = static_cast<uint32_t*>(block);
  const int64_t count = steps_of<Kind>(k) * Kind::kWords;
  for (int64_t first = 0; first < count; first += kVector) {
    const int64_t steps = count - first < kVector ? count - first : kVector;
    for (int64_t begin = 0; begin < kRows; begin += kVector) {
      const int64_t end = begin + kVector < kRows ? begin + kVector : static_cast<int64_t>(kRows);
      WordSquare square;
      for (int64_t row = begin; row < begin + kVector; ++row) {
        if (row < rows) {
          row_words<kElements>(x + row * row_stride, first, k, 1, square.rows[row - begin]);
        } else {
          zero_words(square.rows[row - begin]);
        }
      }
      transpose_square(square);
      for (int64_t i = 0; i < steps; ++i) {
        memcpy(words + (first + i) * kRows + begin, square.rows[i], static_cast<size_t>(end - begin) * sizeof(uint32_t));
      }
    }
  }
}

/// The same of rows of any strides.
template <class Kind, class T>
LeftView copy_left(void* block, const T* x, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t k) {
  using Word = typename Kind::Word;
  const LeftView view{static_cast<const char*>(block), sizeof(Word), kRows * sizeof(Word)};
  if constexpr (sizeof(Word) == sizeof(uint32_t)) {
    if (column_stride == 1) {
      turn_left<Kind>(block, x, row_stride, rows, k);
      return view;
    }
  }
  constexpr int kElements = sizeof(Word) / sizeof(typename Kind::Element);
  auto* words = static_cast<Word*>(block);
  const int64_t count = steps_of<Kind>(k) * Kind::kWords;
  for (int64_t w = 0; w < count; ++w) {
    const T* source = x + w * kElements * column_stride;
    Word* target = words + w * kRows;
    if ((w + 1) * kElements <= k) {
      for (int64_t row = 0; row < rows; ++row) {
        if constexpr (kElements == 2) {
          target[row] = pair_of(as_bf16(source + row * row_stride), as_bf16(source + row * row_stride + column_stride));
        } else {
          target[row] = as_element<Kind>(source + row * row_stride);
        }
      }
    } else {
      for (int64_t row = 0; row < rows; ++row) {
        target[row] = 0;
        if constexpr (kElements == 2) {
          if (w * kElements < k) target[row] = pair_of(as_bf16(source + row * row_stride), BFloat16{0});
        }
      }
    }
  }
  return view;
}

template <class Out, class T>
void fill_panel(const GemmPackArgs& args, const T* source, int64_t outputs, int64_t width, Out* panel) {
  const auto scale = static_cast<Out>(args.scale);
  for (int64_t i = 0; i < args.contraction; ++i) {
    const T* from = source + i * args.contraction_stride;
    for (int64_t n = 0; n < outputs; ++n) panel[n] = static_cast<Out>(load(from + n * args.output_stride)) * scale;
    for (int64_t n = outputs; n < width; ++n) panel[n] = 0;
    panel += width;
  }
}

/// A panel of words: panel[step][width] of `outputs` <= width outputs, zero beyond them.
template <int Depth, class T>
void fill_words(const GemmPackArgs& args, const T* source, int64_t outputs, int64_t width, uint32_t* panel) {
  const int64_t k = args.contraction, steps = (k + Depth - 1) / Depth;
  const auto scale = static_cast<float>(args.scale);
  if (args.contraction_stride == 1) {
    for (int64_t first_output = 0; first_output < width; first_output += kVector) {
      const int64_t rows = outputs - first_output < kVector ? outputs - first_output : kVector;
      for (int64_t first = 0; first < steps; first += kVector) {
        WordSquare square;
        for (int64_t row = 0; row < rows; ++row) {
          row_words<Depth>(source + (first_output + row) * args.output_stride, first, k, scale, square.rows[row]);
        }
        for (int64_t row = rows > 0 ? rows : 0; row < kVector; ++row) zero_words(square.rows[row]);
        transpose_square(square);
        const int64_t count = steps - first < kVector ? steps - first : kVector;
        for (int64_t i = 0; i < count; ++i) {
          memcpy(panel + (first + i) * width + first_output, square.rows[i], kVector * sizeof(uint32_t));
        }
      }
    }
    return;
  }
  for (int64_t step = 0; step < steps; ++step) {
    const T* from = source + step * Depth * args.contraction_stride;
    uint32_t* target = panel + step * width;
    if ((step + 1) * Depth > k) {
      for (int64_t n = 0; n < outputs; ++n) target[n] = Word<Depth>::last(from + n * args.output_stride, scale);
    } else if (args.output_stride == 1) {
      for (int64_t n = 0; n < outputs; ++n) target[n] = Word<Depth>::at(from + n, args.contraction_stride, scale);
    } else {
      for (int64_t n = 0; n < outputs; ++n) target[n] = Word<Depth>::at(from + n * args.output_stride, args.contraction_stride, scale);
    }
    for (int64_t n = outputs; n < width; ++n) target[n] = 0;
  }
}

/// One right panel; layouts in ops/gemm.h.
template <class T>
void pack_panel(const GemmPackArgs& args, const T* source, int64_t outputs, int64_t width, void* panel) {
  if (args.panel == Panel::f64) {
    fill_panel(args, source, outputs, width, static_cast<double*>(panel));
  } else if (args.panel == Panel::f32) {
    fill_words<1>(args, source, outputs, width, static_cast<uint32_t*>(panel));
  } else {
    fill_words<2>(args, source, outputs, width, static_cast<uint32_t*>(panel));
  }
}

/// All panels of a right operand, in parallel when there is enough of it.
void pack_right(const GemmPackArgs& args);

/// Runs body(t) for t in [0, tasks): on this thread when the whole is small.
template <class Body>
LORIKEET_INLINE void for_tasks(bool small, int64_t tasks, const Body& body) {
  if (small || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
  } else {
    parallel_for(tasks, body);
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
