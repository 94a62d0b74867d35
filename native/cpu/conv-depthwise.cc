// Convolutions whose groups have one input channel. An image with its border is copied once, widened, so that the loops below know no
// edges:
//   forward          y = Σ_taps weight[tap] · image shifted by the tap
//   backward input   the same of dy with zeros between its elements (stride - 1) and the taps turned round, summed over the outputs
//   backward weight  dw[tap] = Σ_images Σ_positions dy · image shifted by the tap

#include "cpu/level.h"

#include <cstring>

#include "cpu/integers.h"
#include "cpu/row-sums.h"
#include "ops/conv.h"

namespace lorikeet::LORIKEET_LEVEL {
namespace {

inline constexpr int64_t kGrain = 32768;
inline constexpr int kTogether = 4;  // vectors of sums that take turns

/// One side of a walk over a bordered image: `count` positions, `step` apart, taps `spread` apart.
struct Walk {
  int64_t count, step, spread, taps;
  int64_t size() const { return (count - 1) * step + (taps - 1) * spread + 1; }
};

/// Where elements of one side go in a bordered image: element i to i * gap + before.
struct Border {
  int64_t elements, gap, before;
};

Walk forward_walk(const ConvAxis& axis) { return {axis.out, axis.stride, axis.dilation, axis.kernel}; }
Border forward_border(const ConvAxis& axis) { return {axis.in, 1, axis.pad}; }
Walk backward_walk(const ConvAxis& axis) { return {axis.in, 1, axis.dilation, axis.kernel}; }
Border backward_border(const ConvAxis& axis) { return {axis.out, axis.stride, axis.dilation * (axis.kernel - 1) - axis.pad}; }

/// Elements of a bordered image, and what vectors may read behind it.
template <class C>
int64_t plane_size(const Walk& rows, const Walk& columns) {
  return rows.size() * columns.size() + kTogether * kVectorWidth<C>;
}

/// Copies an image into a plane of `size` elements, of which the first [height, width] are it with its border.
template <class C, class T>
void fill_plane(C* plane, const T* source, const Border& rows, const Border& columns, int64_t height, int64_t width, int64_t size) {
  const int64_t begin = columns.before < 0 ? ceil_div(-columns.before, columns.gap) : 0;
  const int64_t end = width > columns.before ? smaller(columns.elements, ceil_div(width - columns.before, columns.gap)) : 0;
  const auto clear = [](C* from, const C* to) { memset(from, 0, static_cast<size_t>(to - from) * sizeof(C)); };
  C* done = plane;
  for (int64_t r = 0; r < rows.elements; ++r, source += columns.elements) {
    const int64_t row = r * rows.gap + rows.before;
    if (row < 0 || row >= height || begin >= end) continue;
    C* target = plane + row * width + columns.before;
    if (columns.gap == 1) {
      clear(done, target + begin);
      for (int64_t q = begin; q < end; ++q) target[q] = static_cast<C>(load(source + q));
      done = target + end;
    } else {
      clear(done, plane + (row + 1) * width);
      for (int64_t q = begin; q < end; ++q) target[q * columns.gap] = static_cast<C>(load(source + q));
      done = plane + (row + 1) * width;
    }
  }
  clear(done, plane + size);
}

/// `Count` vectors of sums beside each other: sums += Σ_taps weight · plane.
template <int Count, class C>
LORIKEET_INLINE void correlate_vectors(C* sums, const C* plane, int64_t width, const C* weight, const Walk& rows, const Walk& columns,
                                       int64_t last) {
  constexpr int64_t kStep = kVectorWidth<C>;
  Vector<C> sum[Count];
#pragma GCC unroll 4
  for (int v = 0; v < Count; ++v) sum[v] = load_stored(sums + v * kStep, v + 1 < Count ? kStep : last);
  for (int64_t i = 0; i < rows.taps; ++i) {
    for (int64_t j = 0; j < columns.taps; ++j) {
      const C* from = plane + i * rows.spread * width + j * columns.spread;
      const Vector<C> w = splat(weight[i * columns.taps + j]);
#pragma GCC unroll 4
      for (int v = 0; v < Count; ++v) sum[v] = fma(w, load_vector(from + v * kStep), sum[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < Count; ++v) store_stored(sums + v * kStep, sum[v], v + 1 < Count ? kStep : last);
}

/// sums [rows.count, columns.count] += the walk over a bordered image.
template <class C>
void correlate(C* sums, const C* plane, const C* weight, const Walk& rows, const Walk& columns) {
  constexpr int64_t kStep = kVectorWidth<C>;
  const int64_t width = columns.size();
  for (int64_t r = 0; r < rows.count; ++r, sums += columns.count) {
    const C* from = plane + r * rows.step * width;
    if (columns.step > 1) {
      for (int64_t i = 0; i < rows.taps; ++i) {
        for (int64_t j = 0; j < columns.taps; ++j) {
          const C* row = from + i * rows.spread * width + j * columns.spread;
          const C w = weight[i * columns.taps + j];
          for (int64_t q = 0; q < columns.count; ++q) sums[q] = fma(w, row[q * columns.step], sums[q]);
        }
      }
      continue;
    }
    int64_t q = 0;
    for (; q + kTogether * kStep <= columns.count; q += kTogether * kStep) {
      correlate_vectors<kTogether>(sums + q, from + q, width, weight, rows, columns, kStep);
    }
    for (; q < columns.count; q += kStep) {
      correlate_vectors<1>(sums + q, from + q, width, weight, rows, columns, smaller(kStep, columns.count - q));
    }
  }
}

/// Whether a walk is one of 3 x 3 neighbours, step by step.
LORIKEET_INLINE bool is_three_by_three(const Walk& rows, const Walk& columns) {
  const auto plain = [](const Walk& walk) { return walk.taps == 3 && walk.step == 1 && walk.spread == 1; };
  return plain(rows) && plain(columns);
}

/// A vector of R rows of sums, each the chain of `correlate`; a row of the plane is loaded once for the rows that it is a neighbour of.
template <int R, class C>
LORIKEET_INLINE void correlate_three(const C* plane, int64_t width, const Vector<C> (&weight)[9], Vector<C> (&sum)[R]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r] = Vector<C>{};
#pragma GCC unroll 6
  for (int p = 0; p < R + 2; ++p) {
    Vector<C> x[3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) x[j] = load_vector(plane + p * width + j);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        if (p >= r && p - r < 3) sum[r] = fma(weight[3 * (p - r) + j], x[j], sum[r]);
      }
    }
  }
}

/// R rows of out = shift + the walk over 3 x 3 neighbours. The last vector of a row may write again what the one before it wrote.
template <int R, class C, class T>
LORIKEET_INLINE void three_by_three_rows(T* out, const C* plane, int64_t count, const Vector<C> (&weight)[9], Vector<C> shift) {
  constexpr int64_t kStep = kVectorWidth<C>;
  for (int64_t q = 0; q < count; q += kStep) {
    const int64_t at = count < kStep ? 0 : smaller(q, count - kStep), valid = smaller(kStep, count);
    Vector<C> sum[R];
    correlate_three<R>(plane + at, count + 2, weight, sum);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) store_stored(out + r * count + at, sum[r] + shift, valid);
  }
}

template <class C, class T>
void three_by_three(T* out, const C* plane, const C* weight, C shift, const Walk& rows, const Walk& columns) {
  const int64_t width = columns.size(), count = columns.count;
  Vector<C> taps[9];
  for (int i = 0; i < 9; ++i) taps[i] = splat(weight[i]);
  int64_t r = 0;
  for (; r + 4 <= rows.count; r += 4) three_by_three_rows<4>(out + r * count, plane + r * width, count, taps, splat(shift));
  for (; r < rows.count; ++r) three_by_three_rows<1>(out + r * count, plane + r * width, count, taps, splat(shift));
}

/// Sums of the nine taps of dw over one image: dy [rows.count, padded] with zeros behind its rows. A vector of the plane is loaded once for
/// the rows of dy that it is a neighbour of; each tap is one chain over rows and columns.
template <class C>
void three_by_three_weight(Vector<C> (&total)[9], const C* plane, const C* dy, const Walk& rows, const Walk& columns) {
  constexpr int64_t kStep = kVectorWidth<C>;
  const int64_t width = columns.size(), stride = padded<C>(columns.count), last = stride - kStep;
  Vector<C> lanes;
  for (int i = 0; i < kStep; ++i) lanes[i] = static_cast<C>(i);
  const auto inside = lanes < splat(static_cast<C>(columns.count - last));
  for (int64_t p = 0; p < rows.count + 2; ++p) {
    for (int64_t q = 0; q < stride; q += kStep) {
      Vector<C> x[3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        x[j] = load_vector(plane + p * width + q + j);
        if (q == last) x[j] = inside ? x[j] : Vector<C>{};
      }
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        if (p < i || p - i >= rows.count) continue;
        const Vector<C> d = load_vector(dy + (p - i) * stride + q);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) total[3 * i + j] = fma(d, x[j], total[3 * i + j]);
      }
    }
  }
}

/// Calls body(item) for every item, some of them a task so that tasks are worth their start.
template <class Body>
void for_items(int64_t items, int64_t work, const Body& body) {
  const int64_t share = within(kGrain / (work + 1), 1, items + 1), tasks = ceil_div(items, share);
  parallel_for(tasks, [&](int64_t task) {
    for (int64_t item = task * share; item < smaller(items, (task + 1) * share); ++item) body(item);
  });
}

template <class T>
void forward(const ConvArgs& a) {
  using C = compute_t<T>;
  const Walk rows = forward_walk(a.rows), columns = forward_walk(a.columns);
  const int64_t kernel = rows.taps * columns.taps, positions = rows.count * columns.count, size = plane_size<C>(rows, columns);
  const int64_t channels = a.groups * a.outputs;
  for_items(a.batch * a.groups, size + a.outputs * positions * kernel, [&](int64_t image) {
    Scratch memory((size + positions + kernel) * static_cast<int64_t>(sizeof(C)));
    C *plane = memory.as<C>(), *sums = plane + size, *weight = sums + positions;
    fill_plane(plane, static_cast<const T*>(a.x) + image * a.rows.in * a.columns.in, forward_border(a.rows), forward_border(a.columns),
               rows.size(), columns.size(), size);
    for (int64_t o = 0; o < a.outputs; ++o) {
      const int64_t channel = image % a.groups * a.outputs + o;
      for (int64_t i = 0; i < kernel; ++i) weight[i] = static_cast<C>(load(static_cast<const T*>(a.weight) + channel * kernel + i));
      const C shift = a.bias == nullptr ? C(0) : static_cast<C>(load(static_cast<const T*>(a.bias) + channel));
      T* y = static_cast<T*>(a.out) + (image / a.groups * channels + channel) * positions;
      if (is_three_by_three(rows, columns)) {
        three_by_three(y, plane, weight, shift, rows, columns);
        continue;
      }
      memset(sums, 0, static_cast<size_t>(positions) * sizeof(C));
      correlate(sums, plane, weight, rows, columns);
      for_each_vector<T>(positions, [&](int64_t i, int64_t n) { store_stored(y + i, load_stored(sums + i, n) + splat(shift), n); });
    }
  });
}

template <class T>
void backward_input(const ConvArgs& a) {
  using C = compute_t<T>;
  const Walk rows = backward_walk(a.rows), columns = backward_walk(a.columns);
  const int64_t kernel = rows.taps * columns.taps, positions = rows.count * columns.count, size = plane_size<C>(rows, columns);
  const int64_t out_plane = a.rows.out * a.columns.out;
  for_items(a.batch * a.groups, a.outputs * (size + positions * kernel), [&](int64_t image) {
    Scratch memory((size + positions + kernel) * static_cast<int64_t>(sizeof(C)));
    C *plane = memory.as<C>(), *sums = plane + size, *weight = sums + positions;
    T* dx = static_cast<T*>(a.out) + image * positions;
    const bool direct = a.outputs == 1 && is_three_by_three(rows, columns);
    if (!direct) memset(sums, 0, static_cast<size_t>(positions) * sizeof(C));
    for (int64_t o = 0; o < a.outputs; ++o) {
      const T* own = static_cast<const T*>(a.weight) + (image % a.groups * a.outputs + o) * kernel;
      for (int64_t i = 0; i < kernel; ++i) weight[i] = static_cast<C>(load(own + kernel - 1 - i));
      fill_plane(plane, static_cast<const T*>(a.dy) + (image * a.outputs + o) * out_plane, backward_border(a.rows),
                 backward_border(a.columns), rows.size(), columns.size(), size);
      if (direct) return three_by_three(dx, plane, weight, C(0), rows, columns);
      correlate(sums, plane, weight, rows, columns);
    }
    for_each_vector<T>(positions, [&](int64_t i, int64_t n) { store_stored(dx + i, load_stored(sums + i, n), n); });
  });
}

/// total += dy times the shifted plane, each tap one chain over rows and columns; dy [rows.count, padded]. `picked` has room for a row.
template <class C>
void weight_taps(C* totals, const C* plane, const C* dy, const Walk& rows, const Walk& columns, C* picked) {
  constexpr int64_t kStep = kVectorWidth<C>;
  const int64_t kernel = rows.taps * columns.taps, stride = padded<C>(columns.count);
  for (int64_t tap = 0; tap < kernel; ++tap) {
    Vector<C> total = load_stored(totals + tap * kStep);
    for (int64_t r = 0; r < rows.count; ++r) {
      const C* from = plane + (r * rows.step + tap / columns.taps * rows.spread) * columns.size() + tap % columns.taps * columns.spread;
      if (columns.step > 1) {
        for (int64_t q = 0; q < columns.count; ++q) picked[q] = from[q * columns.step];
        from = picked;
      }
      for_each_vector<C>(columns.count,
                         [&](int64_t q, int64_t n) { total = fma(load_vector(dy + r * stride + q), load_stored(from + q, n), total); });
    }
    store_stored(totals + tap * kStep, total);
  }
}

template <class T>
void backward_weight(const ConvArgs& a) {
  using C = compute_t<T>;
  constexpr int64_t kStep = kVectorWidth<C>;
  const Walk rows = forward_walk(a.rows), columns = forward_walk(a.columns);
  const int64_t kernel = rows.taps * columns.taps, size = plane_size<C>(rows, columns), stride = padded<C>(columns.count);
  const int64_t positions = rows.count * columns.count;
  for_items(a.groups * a.outputs, a.batch * (size + positions * kernel), [&](int64_t channel) {
    Scratch memory((size + (rows.count + 1) * stride + kStep * kernel) * static_cast<int64_t>(sizeof(C)));
    C *totals = memory.as<C>(), *dy = totals + kStep * kernel, *picked = dy + rows.count * stride, *plane = picked + stride;
    memset(totals, 0, static_cast<size_t>(plane - totals) * sizeof(C));
    Vector<C> nine[9] = {};
    for (int64_t b = 0; b < a.batch; ++b) {
      fill_plane(plane, static_cast<const T*>(a.x) + (b * a.groups + channel / a.outputs) * a.rows.in * a.columns.in,
                 forward_border(a.rows), forward_border(a.columns), rows.size(), columns.size(), size);
      const T* own = static_cast<const T*>(a.dy) + (b * a.groups * a.outputs + channel) * positions;
      for (int64_t r = 0; r < rows.count; ++r, own += columns.count) {
        for (int64_t q = 0; q < columns.count; ++q) dy[r * stride + q] = static_cast<C>(load(own + q));
      }
      if (is_three_by_three(rows, columns)) {
        three_by_three_weight<C>(nine, plane, dy, rows, columns);
      } else {
        weight_taps(totals, plane, dy, rows, columns, picked);
      }
    }
    T* dw = static_cast<T*>(a.out) + channel * kernel;
    for (int64_t tap = 0; tap < kernel; ++tap) {
      const Vector<C> total = is_three_by_three(rows, columns) ? nine[tap] : load_stored(totals + tap * kStep);
      store(dw + tap, add_vector<C>(total));
    }
  });
}

void depthwise_forward(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward<T>(a))) }
void depthwise_backward_input(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward_input<T>(a))) }
void depthwise_backward_weight(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward_weight<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(depthwise_conv_fwd_kernel, lorikeet::LORIKEET_LEVEL::depthwise_forward)
LORIKEET_KERNEL(depthwise_conv_bwd_input_kernel, lorikeet::LORIKEET_LEVEL::depthwise_backward_input)
LORIKEET_KERNEL(depthwise_conv_bwd_weight_kernel, lorikeet::LORIKEET_LEVEL::depthwise_backward_weight)
