// Convolutions as matrix products. With columns[k, n] the element of the image that channel and tap k meet at position n:
//   forward          y[o, n] = Σ_k weight[o, k] · columns[k, n]
//   backward input   the same of dy, with the outputs and their taps as k: a convolution for each remainder of a position by the stride;
//                    of few input channels the products weightᵀ · dy, added up where their taps were
//   backward weight  dw[o, k] = Σ_n dy[o, n] · columns[k, n], summed over images and stretches of positions
// A task makes the columns of some positions and multiplies them while they are in cache; they are never in memory as a whole.

#include "cpu/level.h"

#include "cpu/conv-columns.h"
#include "cpu/gemm-pack.h"
#include "cpu/gemm.h"

namespace lorikeet::LORIKEET_LEVEL {
namespace {

inline constexpr int64_t kColumnBytes = 256 << 10;
inline constexpr int64_t kFewInputs = 8;    // channels for which a product of the outputs would hardly use its columns
inline constexpr int64_t kLeastPanels = 4;  // of columns in a task, where there are enough tasks

DType wide_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }
int64_t width_of(DType dtype) { return panel_width(kThisLevel, panel_for(dtype), 2); }

/// A right operand before it is packed: element (n, k) at n * output_stride + k * contraction_stride.
template <class T>
struct Columns {
  const T* data;
  int64_t output_stride, contraction_stride;
};

/// y [rows, count] = left [rows, k] · columns, k and count at least 1.
template <class T>
void product(DType dtype, const T* left, int64_t rows, int64_t k, int64_t left_stride, Columns<T> columns, int64_t count, void* y,
             DType y_dtype, int64_t y_stride) {
  const Panel panel = panel_for(dtype);
  Scratch panels(panel_bytes(kThisLevel, panel, count, k, 2));
  pack_right({columns.data, dtype, count, k, columns.output_stride, columns.contraction_stride, 1.0, panel, 2, panels.as<void>()});
  GemmArgs args{};
  args.x = left;
  args.x_dtype = dtype;
  args.x_row_stride = left_stride;
  args.x_column_stride = 1;
  args.y = y;
  args.y_dtype = y_dtype;
  args.y_row_stride = y_stride;
  args.m = rows;
  args.k = k;
  args.n = count;
  args.arithmetic = arithmetic_for(kThisLevel, dtype, panel);
  args.right = {panel, panels.as<void>()};
  args.bias_dtype = dtype;
  gemm(args);
}

/// Positions that a task takes of `positions`, whole panels. The cut does not change a bit of the result.
int64_t share_of(DType dtype, int64_t k, int64_t positions, int64_t images) {
  const int64_t panel = width_of(dtype);
  int64_t panels = within(kColumnBytes / (k * size_of(wide_of(dtype)) * panel + 1), kLeastPanels, ceil_div(positions, panel));
  while (panels > 1 && images * ceil_div(positions, panels * panel) < 2 * thread_count()) panels /= 2;
  return panels * panel;
}

bool same_places(const ConvAxis& axis) { return axis.kernel == 1 && axis.stride == 1 && axis.pad == 0 && axis.in == axis.out; }
bool is_pointwise(const ConvArgs& a) { return same_places(a.rows) && same_places(a.columns); }

template <class T>
void forward(const ConvArgs& a) {
  using C = compute_t<T>;
  Scratch memory((a.rows.kernel + a.columns.kernel) * static_cast<int64_t>(sizeof(int64_t)));
  const Taps rows = forward_taps(a.rows, memory.as<int64_t>());
  const Taps columns = forward_taps(a.columns, memory.as<int64_t>() + a.rows.kernel);
  const int64_t k = a.inputs * rows.count * columns.count, positions = a.rows.out * a.columns.out, plane = a.rows.in * a.columns.in;
  const int64_t images = a.batch * a.groups, share = share_of(a.dtype, k, positions, images), shares = ceil_div(positions, share);
  const bool pointwise = is_pointwise(a);
  auto* bias = static_cast<const T*>(a.bias);
  for_tasks(false, images * shares, [&](int64_t task) {
    const int64_t image = task / shares, group = image % a.groups, first = task % shares * share;
    const int64_t count = smaller(share, positions - first);
    const T* x = static_cast<const T*>(a.x) + image * a.inputs * plane;
    const T* weight = static_cast<const T*>(a.weight) + group * a.outputs * k;
    T* y = static_cast<T*>(a.out) + image * a.outputs * positions + first;
    Scratch gathered(pointwise ? 0 : k * count * static_cast<int64_t>(sizeof(T)));
    Columns<T> right{x + first, 1, plane};
    if (!pointwise) {
      gather_columns(gathered.as<T>(), x, rows, columns, 0, k, a.columns.out, first, count);
      right = {gathered.as<T>(), 1, count};
    }
    if (bias == nullptr) return product(a.dtype, weight, a.outputs, k, k, right, count, y, a.dtype, positions);
    Scratch sums(a.outputs * count * static_cast<int64_t>(sizeof(C)));
    product(a.dtype, weight, a.outputs, k, k, right, count, sums.as<C>(), wide_of(a.dtype), count);
    for (int64_t o = 0; o < a.outputs; ++o) {
      const C* from = sums.as<C>() + o * count;
      const C shift = static_cast<C>(load(bias + group * a.outputs + o));
      for (int64_t i = 0; i < count; ++i) store(y + o * positions + i, from[i] + shift);
    }
  });
}

/// The elements of x at phase, phase + stride, ... of both sides, and the taps that reach them.
struct Phase {
  int64_t row, column, height, width;
  Taps rows, columns;
  const int64_t *row_taps, *column_taps;
};

/// The weight of one phase and group, [inputs, outputs · taps].
template <class T>
void turn_weight(const ConvArgs& a, const Phase& p, const T* weight, T* turned) {
  const int64_t kernel = a.rows.kernel * a.columns.kernel;
  for (int64_t c = 0; c < a.inputs; ++c) {
    for (int64_t o = 0; o < a.outputs; ++o) {
      const T* from = weight + (o * a.inputs + c) * kernel;
      for (int64_t i = 0; i < p.rows.count; ++i) {
        for (int64_t j = 0; j < p.columns.count; ++j) *turned++ = from[p.row_taps[i] * a.columns.kernel + p.column_taps[j]];
      }
    }
  }
}

template <class T>
void backward_phase(const ConvArgs& a, const Phase& p) {
  using C = compute_t<T>;
  const int64_t k = a.outputs * p.rows.count * p.columns.count, positions = p.height * p.width;
  const int64_t out_plane = a.rows.out * a.columns.out, plane = a.rows.in * a.columns.in, images = a.batch * a.groups;
  const bool dense = a.rows.stride == 1 && a.columns.stride == 1, pointwise = is_pointwise(a);
  Scratch weights(a.groups * a.inputs * k * static_cast<int64_t>(sizeof(T)));
  for (int64_t group = 0; group < a.groups; ++group) {
    turn_weight(a, p, static_cast<const T*>(a.weight) + group * a.outputs * a.inputs * a.rows.kernel * a.columns.kernel,
                weights.as<T>() + group * a.inputs * k);
  }
  const int64_t share = share_of(a.dtype, k, positions, images), shares = ceil_div(positions, share);
  for_tasks(false, images * shares, [&](int64_t task) {
    const int64_t image = task / shares, first = task % shares * share, count = smaller(share, positions - first);
    const T* dy = static_cast<const T*>(a.dy) + image * a.outputs * out_plane;
    const T* weight = weights.as<T>() + image % a.groups * a.inputs * k;
    T* dx = static_cast<T*>(a.out) + image * a.inputs * plane;
    Scratch gathered(pointwise ? 0 : k * count * static_cast<int64_t>(sizeof(T)));
    Columns<T> right{dy + first, 1, out_plane};
    if (!pointwise) {
      gather_columns(gathered.as<T>(), dy, p.rows, p.columns, 0, k, p.width, first, count);
      right = {gathered.as<T>(), 1, count};
    }
    if (dense && k > 0) return product(a.dtype, weight, a.inputs, k, k, right, count, dx + first, a.dtype, plane);
    Scratch sums(a.inputs * count * static_cast<int64_t>(sizeof(C)));
    if (k > 0) {
      product(a.dtype, weight, a.inputs, k, k, right, count, sums.as<C>(), wide_of(a.dtype), count);
    } else {
      memset(sums.as<C>(), 0, static_cast<size_t>(a.inputs * count) * sizeof(C));
    }
    const C* from = sums.as<C>();
    for (int64_t c = 0; c < a.inputs; ++c) {
      for (int64_t n = first; n < first + count; ++n) {
        const int64_t row = p.row + n / p.width * a.rows.stride, column = p.column + n % p.width * a.columns.stride;
        store(dx + c * plane + row * a.columns.in + column, *from++);
      }
    }
  });
}

/// Of few input channels: what each tap gives to the elements it met, then their sums. One image a task.
template <class T>
void fold_input(const ConvArgs& a) {
  using C = compute_t<T>;
  const int64_t taps = a.rows.kernel * a.columns.kernel, k = a.inputs * taps;
  const int64_t positions = a.rows.out * a.columns.out, plane = a.rows.in * a.columns.in;
  Scratch turned(a.groups * k * a.outputs * static_cast<int64_t>(sizeof(T)));
  for (int64_t group = 0; group < a.groups; ++group) {
    const T* weight = static_cast<const T*>(a.weight) + group * a.outputs * k;
    T* target = turned.as<T>() + group * k * a.outputs;
    for (int64_t o = 0; o < a.outputs; ++o) {
      for (int64_t i = 0; i < k; ++i) target[i * a.outputs + o] = weight[o * k + i];
    }
  }
  for_tasks(false, a.batch * a.groups, [&](int64_t image) {
    const T* dy = static_cast<const T*>(a.dy) + image * a.outputs * positions;
    Scratch memory((k * positions + plane) * static_cast<int64_t>(sizeof(C)));
    C *given = memory.as<C>(), *sums = given + k * positions;
    product<T>(a.dtype, turned.as<T>() + image % a.groups * k * a.outputs, k, a.outputs, a.outputs, {dy, 1, positions}, positions, given,
               wide_of(a.dtype), positions);
    for (int64_t c = 0; c < a.inputs; ++c) {
      memset(sums, 0, static_cast<size_t>(plane) * sizeof(C));
      for (int64_t tap = 0; tap < taps; ++tap, given += positions) {
        const int64_t offset = tap % a.columns.kernel * a.columns.dilation - a.columns.pad, step = a.columns.stride;
        const int64_t begin = within(offset < 0 ? ceil_div(-offset, step) : 0, 0, a.columns.out);
        const int64_t end = within(a.columns.in > offset ? ceil_div(a.columns.in - offset, step) : 0, begin, a.columns.out);
        for (int64_t r = 0; r < a.rows.out; ++r) {
          const int64_t row = r * a.rows.stride + tap / a.columns.kernel * a.rows.dilation - a.rows.pad;
          if (row < 0 || row >= a.rows.in) continue;
          C* target = sums + row * a.columns.in + offset;
          for (int64_t q = begin; q < end; ++q) target[q * step] += given[r * a.columns.out + q];
        }
      }
      T* dx = static_cast<T*>(a.out) + (image * a.inputs + c) * plane;
      for (int64_t i = 0; i < plane; ++i) store(dx + i, sums[i]);
    }
  });
}

template <class T>
void backward_input(const ConvArgs& a) {
  if (a.inputs < kFewInputs && !is_pointwise(a)) return fold_input<T>(a);
  const int64_t kernels = a.rows.kernel + a.columns.kernel;
  Scratch memory(2 * kernels * static_cast<int64_t>(sizeof(int64_t)));
  int64_t *row_offsets = memory.as<int64_t>(), *column_offsets = row_offsets + a.rows.kernel;
  int64_t *row_taps = row_offsets + kernels, *column_taps = row_taps + a.rows.kernel;
  for (int64_t row = 0; row < smaller(a.rows.stride, a.rows.in); ++row) {
    for (int64_t column = 0; column < smaller(a.columns.stride, a.columns.in); ++column) {
      backward_phase<T>(a, {row, column, ceil_div(a.rows.in - row, a.rows.stride), ceil_div(a.columns.in - column, a.columns.stride),
                            backward_taps(a.rows, row, row_offsets, row_taps),
                            backward_taps(a.columns, column, column_offsets, column_taps), row_taps, column_taps});
    }
  }
}

template <class T>
void backward_weight(const ConvArgs& a) {
  using C = compute_t<T>;
  Scratch memory((a.rows.kernel + a.columns.kernel) * static_cast<int64_t>(sizeof(int64_t)));
  const Taps rows = forward_taps(a.rows, memory.as<int64_t>());
  const Taps columns = forward_taps(a.columns, memory.as<int64_t>() + a.rows.kernel);
  const int64_t k = a.inputs * rows.count * columns.count, positions = a.rows.out * a.columns.out, plane = a.rows.in * a.columns.in;
  const int64_t panel = width_of(a.dtype), panels = ceil_div(k, panel);
  const int64_t share = within(panels * a.groups / (4 * thread_count()), 1, smaller(8, panels)) * panel, shares = ceil_div(k, share);
  const bool pointwise = is_pointwise(a);
  for_tasks(false, a.groups * shares, [&](int64_t task) {
    const int64_t group = task / shares, begin = task % shares * share, width = smaller(share, k - begin);
    Scratch sums(2 * a.outputs * width * static_cast<int64_t>(sizeof(C)));
    C *total = sums.as<C>(), *part = total + a.outputs * width;
    memset(total, 0, static_cast<size_t>(a.outputs * width) * sizeof(C));
    Scratch gathered(pointwise ? 0 : width * smaller(kConvStretch, positions) * static_cast<int64_t>(sizeof(T)));
    for (int64_t b = 0; b < a.batch; ++b) {
      const T* x = static_cast<const T*>(a.x) + (b * a.groups + group) * a.inputs * plane;
      const T* dy = static_cast<const T*>(a.dy) + (b * a.groups + group) * a.outputs * positions;
      for (int64_t first = 0; first < positions; first += kConvStretch) {
        const int64_t count = smaller(kConvStretch, positions - first);
        Columns<T> right{x + begin * plane + first, plane, 1};
        if (!pointwise) {
          gather_columns(gathered.as<T>(), x, rows, columns, begin, begin + width, a.columns.out, first, count);
          right = {gathered.as<T>(), count, 1};
        }
        product(a.dtype, dy + first, a.outputs, count, positions, right, width, part, wide_of(a.dtype), width);
        for (int64_t i = 0; i < a.outputs * width; ++i) total[i] += part[i];
      }
    }
    T* dw = static_cast<T*>(a.out) + group * a.outputs * k + begin;
    for (int64_t o = 0; o < a.outputs; ++o) {
      for (int64_t i = 0; i < width; ++i) store(dw + o * k + i, total[o * width + i]);
    }
  });
}

void conv_forward(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (forward<T>(a))) }
void conv_backward_input(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward_input<T>(a))) }
void conv_backward_weight(const ConvArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (backward_weight<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(conv_fwd_kernel, lorikeet::LORIKEET_LEVEL::conv_forward)
LORIKEET_KERNEL(conv_bwd_input_kernel, lorikeet::LORIKEET_LEVEL::conv_backward_input)
LORIKEET_KERNEL(conv_bwd_weight_kernel, lorikeet::LORIKEET_LEVEL::conv_backward_weight)
