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

template <class C, class T>
void fill_plane(C* plane, const T* source, const Border& rows, const Border& columns, int64_t height, int64_t width, int64_t size) {
  memset(plane, 0, static_cast<size_t>(size) * sizeof(C));
  for (int64_t r = 0; r < rows.elements; ++r, source += columns.elements) {
    const int64_t row = r * rows.gap + rows.before;
    if (row < 0 || row >= height) continue;
    C* target = plane + row * width;
    const int64_t begin = columns.before < 0 ? ceil_div(-columns.before, columns.gap) : 0;
    const int64_t end = width > columns.before ? smaller(columns.elements, ceil_div(width - columns.before, columns.gap)) : 0;
    target += columns.before;
    if (columns.gap == 1) {
      for (int64_t q = begin; q < end; ++q) target[q] = static_cast<C>(load(source + q));
    } else {
      for (int64_t q = begin; q < end; ++q) target[q * columns.gap] = static_cast<C>(load(source + q));
    }
  }
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
      memset(sums, 0, static_cast<size_t>(positions) * sizeof(C));
      correlate(sums, plane, weight, rows, columns);
      const C shift = a.bias == nullptr ? C(0) : static_cast<C>(load(static_cast<const T*>(a.bias) + channel));
      T* y = static_cast<T*>(a.out) + (image / a.groups * channels + channel) * positions;
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
    memset(sums, 0, static_cast<size_t>(positions) * sizeof(C));
    for (int64_t o = 0; o < a.outputs; ++o) {
      const T* own = static_cast<const T*>(a.weight) + (image % a.groups * a.outputs + o) * kernel;
      for (int64_t i = 0; i < kernel; ++i) weight[i] = static_cast<C>(load(own + kernel - 1 - i));
      fill_plane(plane, static_cast<const T*>(a.dy) + (image * a.outputs + o) * out_plane, backward_border(a.rows),
                 backward_border(a.columns), rows.size(), columns.size(), size);
      correlate(sums, plane, weight, rows, columns);
    }
    T* dx = static_cast<T*>(a.out) + image * positions;
    for_each_vector<T>(positions, [&](int64_t i, int64_t n) { store_stored(dx + i, load_stored(sums + i, n), n); });
  });
}

template <class T>
void backward_weight(const ConvArgs& a) {
  using C = compute_t<T>;
  const Walk rows = forward_walk(a.rows), columns = forward_walk(a.columns);
  const int64_t kernel = rows.taps * columns.taps, positions = rows.count * columns.count, size = plane_size<C>(rows, columns);
  for_items(a.groups * a.outputs, a.batch * (size + positions * kernel), [&](int64_t channel) {
    constexpr int64_t kStep = kVectorWidth<C>;
    Scratch memory((size + positions + columns.count + kStep * (kernel + 1)) * static_cast<int64_t>(sizeof(C)));
    C *totals = memory.as<C>(), *plane = totals + kStep * kernel, *dy = plane + size, *picked = dy + positions;
    memset(totals, 0, static_cast<size_t>(kStep * kernel) * sizeof(C));
    for (int64_t b = 0; b < a.batch; ++b) {
      fill_plane(plane, static_cast<const T*>(a.x) + (b * a.groups + channel / a.outputs) * a.rows.in * a.columns.in,
                 forward_border(a.rows), forward_border(a.columns), rows.size(), columns.size(), size);
      const T* own = static_cast<const T*>(a.dy) + (b * a.groups * a.outputs + channel) * positions;
      for (int64_t i = 0; i < positions; ++i) dy[i] = static_cast<C>(load(own + i));
      for (int64_t tap = 0; tap < kernel; ++tap) {
        Vector<C> total = load_stored(totals + tap * kStep);
        for (int64_t r = 0; r < rows.count; ++r) {
          const C* from = plane + (r * rows.step + tap / columns.taps * rows.spread) * columns.size() + tap % columns.taps * columns.spread;
          if (columns.step > 1) {
            for (int64_t q = 0; q < columns.count; ++q) picked[q] = from[q * columns.step];
            from = picked;
          }
          for_each_vector<C>(columns.count, [&](int64_t q, int64_t n) {
            total = fma(load_stored(dy + r * columns.count + q, n), load_stored(from + q, n), total);
          });
        }
        store_stored(totals + tap * kStep, total);
      }
    }
    T* dw = static_cast<T*>(a.out) + channel * kernel;
    for (int64_t tap = 0; tap < kernel; ++tap) store(dw + tap, add_vector<C>(load_stored(totals + tap * kStep)));
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
