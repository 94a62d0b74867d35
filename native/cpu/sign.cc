// Matrices in 1 to 8 bits a value: mean and deviation, codes, values of codes, and values rounded to those of codes with their gradient.
// Work is cut into runs of kRun values, which end with whole bytes of codes.

#include "cpu/level.h"

#include "cpu/integers.h"
#include "cpu/sign-cutoffs.h"
#include "cpu/stored-vector.h"
#include "ops/sign.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kRun = 4096;

template <class Body>
LORIKEET_INLINE void for_each_sign_run(int64_t count, const Body& body) {
  parallel_for(ceil_div(count, kRun), [&](int64_t run) { body(run, run * kRun, smaller(kRun, count - run * kRun)); });
}

/// out[i] = Σ of term i over a run, where terms(vector of x, values) gives the N of a vector: floats are summed in short stretches, and
/// these in double. What follows x at a distance of `ahead` elements is asked for meanwhile.
template <int N, class T, class Terms>
LORIKEET_INLINE void run_sums(const T* x, int64_t count, int64_t ahead, double (&out)[N], const Terms& terms) {
  using C = compute_t<T>;
  constexpr int kWidth = kVectorWidth<C>, kChains = 4;
  constexpr int64_t kStretch = 16 * kWidth;
  double totals[N][kWidth] = {};
  for (int64_t first = 0; first < count; first += kStretch) {
    Vector<C> sums[kChains][N] = {}, values[N];
    const int64_t own = smaller(kStretch, count - first);
    for (int64_t i = 0; ahead > 0 && i < kStretch; i += 64 / static_cast<int64_t>(sizeof(T)))
      __builtin_prefetch(x + ahead + first + i, 0, 2);
    if (own == kStretch) {
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        terms(load_stored(x + first + i * kWidth), values);
        for (int n = 0; n < N; ++n) sums[i % kChains][n] += values[n];
      }
    } else {
      for_each_vector<T>(own, [&](int64_t at, int64_t valid) {
        terms(load_stored(x + first + at, valid), values);
        for (int n = 0; n < N; ++n) sums[0][n] += only_first<T>(values[n], valid);
      });
    }
    for (int n = 0; n < N; ++n) {
      const Vector<C> sum = (sums[0][n] + sums[1][n]) + (sums[2][n] + sums[3][n]);
      for (int i = 0; i < kWidth; ++i) totals[n][i] += static_cast<double>(sum[i]);
    }
  }
  for (int n = 0; n < N; ++n) {
    for (int width = kWidth / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) totals[n][i] += totals[n][i + width];
    }
    out[n] = totals[n][0];
  }
}

/// Σ of a run.
template <class T>
LORIKEET_INLINE double run_sum(const T* x, int64_t count) {
  double sum[1];
  run_sums(
      x, count, 0, sum, [](auto v, auto& values) __attribute__((always_inline)) { values[0] = v; });
  return sum[0];
}

/// Mean and sum of squared distances from it, of each run on its own while it lies in the level-1 cache; then run by run joined.
template <class T>
void sign_moments(const SignMomentsArgs& args) {
  struct Part {
    double mean, squares;
  };
  Scratch memory(ceil_div(args.count, kRun) * static_cast<int64_t>(sizeof(Part)));
  Part* parts = memory.as<Part>();
  for_each_sign_run(args.count, [&](int64_t run, int64_t first, int64_t count) {
    const T* x = static_cast<const T*>(args.x) + first;
    const auto n = static_cast<double>(count);
    // About a centre that is the mean but for rounding; what rounding left is taken out of the squares again.
    const auto centre = static_cast<compute_t<T>>(run_sum(x, count) / n);
    double sums[2];
    run_sums(
        x, count, kRun, sums, [at = splat(centre)](auto v, auto& values) __attribute__((always_inline)) {
          values[0] = v - at;
          values[1] = values[0] * values[0];
        });
    const double rest = sums[0] / n;
    parts[run] = {static_cast<double>(centre) + rest, sums[1] - n * rest * rest};
  });
  double mean = 0, squares = 0;
  for (int64_t first = 0; first < args.count; first += kRun) {
    const Part& part = parts[first / kRun];
    const auto before = static_cast<double>(first), own = static_cast<double>(smaller(kRun, args.count - first));
    const double distance = part.mean - mean, share = own / (before + own);
    mean += distance * share;
    squares += part.squares + distance * distance * before * share;
  }
  using C = compute_t<T>;
  args.moments[0] = static_cast<double>(static_cast<C>(mean));
  args.moments[1] = args.count < 2 ? 0 : static_cast<double>(static_cast<C>(__builtin_sqrt(squares / static_cast<double>(args.count - 1))));
}

/// z = (w - μ) / (σ + ε) in the type that is computed in.
template <class C>
struct Standardised {
  Vector<C> mean, divisor;
  explicit Standardised(const SignArgs& args)
      : mean(splat(static_cast<C>(args.mean))), divisor(splat(static_cast<C>(args.deviation) + static_cast<C>(kSignEpsilon))) {}
  LORIKEET_INLINE Vector<C> operator()(Vector<C> w) const { return (w - mean) / divisor; }
};

template <class T>
void codes_of_run(const SignArgs& args, const SignCutoffs<compute_t<T>>& cutoffs, int64_t first, int64_t count) {
  const T* w = static_cast<const T*>(args.w) + first;
  uint8_t* out = args.codes + first * args.bits / 8;
  if (args.bits == 8) return codes_by_cells(w, count, cutoffs, out);
  alignas(64) uint8_t codes[kCodeBlock];
  for (int64_t begin = 0; begin < count; begin += kCodeBlock) {
    const int64_t block = smaller(kCodeBlock, count - begin);
#if defined(__AVX512F__)
    if constexpr (__is_same(compute_t<T>, float)) {
      if (args.bits == 1 && block == kCodeBlock) {
        const uint64_t bits = bits_above(w + begin, cutoffs.below[0]);
        __builtin_memcpy(out + begin / 8, &bits, sizeof bits);
        continue;
      }
    }
#endif
    for_each_vector<T>(
        block, [&](int64_t at, int64_t valid) { store_codes<compute_t<T>>(load_stored(w + begin + at, valid), cutoffs, codes + at); });
    join_codes(codes, block, args.bits, out + begin * args.bits / 8);
  }
}

/// From the last run to the first: moments were taken from the first to the last, and the last ones may still be in cache.
template <class T>
void codes_of_runs(const SignArgs& args) {
  const SignCutoffs<compute_t<T>> cutoffs(args);
  const int64_t runs = ceil_div(args.count, kRun);
  parallel_for(runs, [&](int64_t task) {
    const int64_t first = (runs - 1 - task) * kRun;
    codes_of_run<T>(args, cutoffs, first, smaller(kRun, args.count - first));
  });
}

template <class T>
void round_run(const SignArgs& args, int64_t first, int64_t count) {
  using C = compute_t<T>;
  const T* w = static_cast<const T*>(args.w) + first;
  T* out = static_cast<T*>(args.out) + first;
  const SignBook::Table<C>& table = book_table<C>(*args.book);
  const Standardised<C> standardised(args);
  const Vector<C> deviation = splat(static_cast<C>(args.deviation));
  for_each_vector<T>(count, [&](int64_t at, int64_t valid) {
    const Vector<C> q = book_values(standardised(load_stored(w + at, valid)), table, args.book->count);
    store_stored(out + at, q * deviation + standardised.mean, valid);
  });
}

/// With a = σ / (σ + ε): out = a dy + (1 - a) mean(dy) + Σ dy (q - a z) · (w - μ) / ((n - 1) σ).
template <class T>
void round_backward(const SignArgs& args) {
  using C = compute_t<T>;
  struct Part {
    double sum, along;
  };
  const Standardised<C> standardised(args);
  const SignBook::Table<C>& table = book_table<C>(*args.book);
  const double a = args.deviation / (args.deviation + kSignEpsilon);
  const int64_t runs = ceil_div(args.count, kRun);
  Scratch memory(runs * static_cast<int64_t>(sizeof(Part)));
  Part* parts = memory.as<Part>();
  for_each_sign_run(args.count, [&](int64_t run, int64_t first, int64_t count) {
    const T *w = static_cast<const T*>(args.w) + first, *dy = static_cast<const T*>(args.dy) + first;
    alignas(64) C along[kRun];
    for_each_vector<T>(count, [&](int64_t at, int64_t valid) {
      const Vector<C> z = standardised(load_stored(w + at, valid));
      const Vector<C> rest = book_values(z, table, args.book->count) - splat(static_cast<C>(a)) * z;
      store_stored(along + at, load_stored(dy + at, valid) * rest);
    });
    parts[run] = {run_sum(dy, count), run_sum(along, count)};
  });
  double sum = 0, along = 0;
  for (int64_t run = 0; run < runs; ++run) {
    sum += parts[run].sum;
    along += parts[run].along;
  }
  const auto n = static_cast<double>(args.count);
  const Vector<C> direct = splat(static_cast<C>(a)), shared = splat(static_cast<C>((1 - a) * sum / n)),
                  factor = splat(static_cast<C>(along / ((n - 1) * args.deviation)));
  for_each_sign_run(args.count, [&](int64_t, int64_t first, int64_t count) {
    const T *w = static_cast<const T*>(args.w) + first, *dy = static_cast<const T*>(args.dy) + first;
    T* out = static_cast<T*>(args.out) + first;
    for_each_vector<T>(count, [&](int64_t at, int64_t valid) {
      const Vector<C> centred = load_stored(w + at, valid) - standardised.mean;
      store_stored(out + at, fma(factor, centred, fma(direct, load_stored(dy + at, valid), shared)), valid);
    });
  });
}

template <int Bits, class T>
void unpack_as(const SignUnpackArgs& args) {
#if defined(__AVX512F__)
  const CodeTable<Bits> table(args.table);
#endif
  for_each_sign_run(args.count, [&](int64_t, int64_t first, int64_t count) {
    T* out = static_cast<T*>(args.out) + first;
    const uint8_t* codes = args.codes + first * Bits / 8;
    int64_t begin = 0;
#if defined(__AVX512F__)
    if constexpr (__is_same(compute_t<T>, float)) {
      for (; begin + 32 <= count; begin += 32) {
        __m512 values[2];
        table.look_up(codes + begin * Bits / 8, values);
        store_stored(out + begin, (Vector<float>)values[0]);
        store_stored(out + begin + 16, (Vector<float>)values[1]);
      }
    }
#endif
    for (; begin < count; begin += kCodeBlock) {
      unpack_block<Bits>(codes + begin * Bits / 8, args.table, smaller(kCodeBlock, count - begin), out + begin);
    }
  });
}

template <int Bits>
void unpack(const SignUnpackArgs& args) {
  LORIKEET_FLOAT_SWITCH(args.dtype, T, (unpack_as<Bits, T>(args)))
}

void sign_unpack(const SignUnpackArgs& args) {
  switch (args.bits) {
    case 1: return unpack<1>(args);
    case 2: return unpack<2>(args);
    case 4: return unpack<4>(args);
    default: return unpack<8>(args);
  }
}

void sign_moments_of(const SignMomentsArgs& args) { LORIKEET_FLOAT_SWITCH(args.dtype, T, sign_moments<T>(args)) }
void sign_codes(const SignArgs& args) { LORIKEET_FLOAT_SWITCH(args.dtype, T, codes_of_runs<T>(args)) }
void sign_round(const SignArgs& args) {
  for_each_sign_run(args.count,
                    [&](int64_t, int64_t first, int64_t count) { LORIKEET_FLOAT_SWITCH(args.dtype, T, round_run<T>(args, first, count)) });
}
void sign_round_backward(const SignArgs& args){LORIKEET_FLOAT_SWITCH(args.dtype, T, round_backward<T>(args))}

LORIKEET_KERNEL(sign_moments_kernel, sign_moments_of)
LORIKEET_KERNEL(sign_codes_kernel, sign_codes)
LORIKEET_KERNEL(sign_round_kernel, sign_round)
LORIKEET_KERNEL(sign_round_backward_kernel, sign_round_backward)
LORIKEET_KERNEL(sign_unpack_kernel, sign_unpack)

}  // namespace lorikeet::LORIKEET_LEVEL
