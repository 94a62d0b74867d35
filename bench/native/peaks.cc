#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Accumulators in flight hide the latency of a multiply-add: twelve where there are 16 registers (4 cycles, two a cycle), more where there
// are 32. The factors are near 1 and -1e-4, so values stay normal numbers.

namespace lorikeet::bench {
namespace {

constexpr int kWideChains = 24;
constexpr float kFactor = 0.9999f, kTerm = 1e-4f;

/// The same loops over a vector type that the compiler knows, at the instruction level of the function that they are inlined into.
template <class Vector, int lanes, int chains>
[[gnu::always_inline]] inline double multiply_add(int64_t loops, float* result) {
  Vector sums[chains];
  Vector factor{}, term{};
  for (int lane = 0; lane < lanes; ++lane) {
    factor[lane] = kFactor + static_cast<float>(lane) * 1e-6f;
    term[lane] = kTerm * static_cast<float>(lane + 1);
  }
  for (int i = 0; i < chains; ++i) sums[i] = term * static_cast<float>(i + 1);
  for (int64_t loop = 0; loop < loops; ++loop) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + term;
  }
  float total = 0;
  for (int i = 0; i < chains; ++i) {
    for (int lane = 0; lane < lanes; ++lane) total += sums[i][lane];
  }
  *result = total;
  return 2.0 * lanes * chains * static_cast<double>(loops);
}

template <class Vector, int lanes>
[[gnu::always_inline]] inline float sum(const float* x, int64_t n) {
  Vector sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[j] += *reinterpret_cast<const Vector*>(x + i + j * lanes);
  }
  float total = 0;
  for (int lane = 0; lane < lanes; ++lane) total += sums[0][lane] + sums[1][lane] + sums[2][lane] + sums[3][lane];
  return total;
}

template <class Vector, int lanes>
[[gnu::always_inline]] inline void add_scaled(float* a, const float* b, const float* c, int64_t n) {
  for (int64_t i = 0; i + lanes <= n; i += lanes) {
    *reinterpret_cast<Vector*>(a + i) = *reinterpret_cast<const Vector*>(b + i) + *reinterpret_cast<const Vector*>(c + i) * 1.5f;
  }
}

typedef float Float4 __attribute__((vector_size(16), may_alias));
typedef float Float8 __attribute__((vector_size(32), may_alias));
typedef float Float16 __attribute__((vector_size(64), may_alias));

#define LOOPS(name, target, Vector, lanes, chains)                                                                      \
  target double name##_f32(int64_t loops, float* result) { return multiply_add<Vector, lanes, chains>(loops, result); } \
  target float name##_read(const float* x, int64_t n) { return sum<Vector, lanes>(x, n); }                              \
  target void name##_triad(float* a, const float* b, const float* c, int64_t n) { add_scaled<Vector, lanes>(a, b, c, n); }

LOOPS(scalar, , Float4, 4, 12)
#if defined(__x86_64__)
LOOPS(avx2, __attribute__((target("avx2,fma"))), Float8, 8, 12)
LOOPS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,prefer-vector-width=512"))), Float16, 16, kWideChains)

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) double pairs_bf16(int64_t loops, float* result) {
  __m512 sums[kWideChains];
  const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(kFactor), _mm512_set1_ps(-0.75f));
  const __m512bh y = _mm512_cvtne2ps_pbh(_mm512_set1_ps(kTerm), _mm512_set1_ps(0.002f));
  // All loops over the sums are unrolled: one that is not would put the array in memory.
#pragma GCC unroll 24
  for (int i = 0; i < kWideChains; ++i) sums[i] = _mm512_set1_ps(kTerm * static_cast<float>(i + 1));
  for (int64_t loop = 0; loop < loops; ++loop) {
#pragma GCC unroll 24
    for (int i = 0; i < kWideChains; ++i) {
      sums[i] = _mm512_dpbf16_ps(sums[i], x, y);
      asm("" : "+v"(sums[i]));
    }
  }
  __m512 sum = sums[0];
#pragma GCC unroll 24
  for (int i = 1; i < kWideChains; ++i) sum = _mm512_add_ps(sum, sums[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, sum);
  float total = 0;
  for (float lane : lanes) total += lane;
  *result = total;
  return 4.0 * 16 * kWideChains * static_cast<double>(loops);
}
#endif

}  // namespace

Peaks peaks_of(Level level) {
#if defined(__x86_64__)
  if (level >= Level::avx512_bf16) return {avx512_f32, pairs_bf16, avx512_read, avx512_triad};
  if (level == Level::avx512) return {avx512_f32, avx512_f32, avx512_read, avx512_triad};
  if (level == Level::avx2) return {avx2_f32, avx2_f32, avx2_read, avx2_triad};
#endif
  (void)level;
  return {scalar_f32, scalar_f32, scalar_read, scalar_triad};
}

}  // namespace lorikeet::bench
