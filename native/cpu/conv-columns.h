#pragma once

// The elements of images that a kernel meets, laid out for a matrix product: a row for every channel and tap, an entry for every position.

#include <cstring>

#include "cpu/integers.h"
#include "ops/conv.h"

namespace lorikeet::LORIKEET_LEVEL {

/// One side: position n meets element n * step + offsets[tap] at each tap, which is 0 outside [0, size).
struct Taps {
  int64_t step, size, count;
  int64_t* offsets;
};

/// A forward walk over one side; `offsets` has room for the kernel.
LORIKEET_INLINE Taps forward_taps(const ConvAxis& axis, int64_t* offsets) {
  for (int64_t tap = 0; tap < axis.kernel; ++tap) offsets[tap] = tap * axis.dilation - axis.pad;
  return {axis.stride, axis.in, axis.kernel, offsets};
}

/// The walk back from elements phase, phase + stride, ... of one side to the outputs that they went into: the taps are those that reach
/// them, and `taps` gets their numbers.
LORIKEET_INLINE Taps backward_taps(const ConvAxis& axis, int64_t phase, int64_t* offsets, int64_t* taps) {
  Taps walk{1, axis.out, 0, offsets};
  for (int64_t tap = 0; tap < axis.kernel; ++tap) {
    const int64_t from = phase + axis.pad - tap * axis.dilation;
    if (from % axis.stride != 0) continue;
    taps[walk.count] = tap;
    offsets[walk.count++] = from / axis.stride;
  }
  return walk;
}

/// Entries [first, first + count) of one row of positions at one tap, out of a row of the image.
template <class T>
LORIKEET_INLINE void gather_run(T* target, const T* row, const Taps& walk, int64_t tap, int64_t first, int64_t count) {
  const int64_t offset = walk.offsets[tap], end = first + count;
  const int64_t from = within(offset < 0 ? ceil_div(-offset, walk.step) : 0, first, end);
  const int64_t to = within(walk.size > offset ? ceil_div(walk.size - offset, walk.step) : 0, from, end);
  memset(target, 0, static_cast<size_t>(from - first) * sizeof(T));
  if (walk.step == 1) {
    memcpy(target + (from - first), row + from + offset, static_cast<size_t>(to - from) * sizeof(T));
  } else {
    for (int64_t n = from; n < to; ++n) target[n - first] = row[n * walk.step + offset];
  }
  memset(target + (to - first), 0, static_cast<size_t>(end - to) * sizeof(T));
}

/// Rows [row_begin, row_end) of the columns of one image, whose planes lie one after the other, at positions [first, first + count) of a
/// grid `width` wide. Row (channel · taps of rows + i) · taps of columns + j is that of one channel and tap.
template <class T>
void gather_columns(T* target, const T* image, const Taps& rows, const Taps& columns, int64_t row_begin, int64_t row_end, int64_t width,
                    int64_t first, int64_t count) {
  const int64_t taps = rows.count * columns.count;
  for (int64_t k = row_begin; k < row_end; ++k) {
    const T* plane = image + k / taps * rows.size * columns.size;
    const int64_t row_tap = k % taps / columns.count, column_tap = k % columns.count;
    int64_t r = first / width, q = first % width;
    for (int64_t done = 0; done < count;) {
      const int64_t run = smaller(width - q, count - done), source = r * rows.step + rows.offsets[row_tap];
      if (source < 0 || source >= rows.size) {
        memset(target + done, 0, static_cast<size_t>(run) * sizeof(T));
      } else {
        gather_run(target + done, plane + source * columns.size, columns, column_tap, q, run);
      }
      done += run;
      q = 0;
      ++r;
    }
    target += count;
  }
}

}  // namespace lorikeet::LORIKEET_LEVEL
