// Unary ops over contiguous arrays of n elements: y = f(x; p, q) and dx = dy f'(saved). One thread per element in a grid-stride loop.

#include "cuda/device-math.cuh"
#include "cuda/launch.cuh"
#include "ops/elementwise.h"

#undef LORIKEET_INLINE
#define LORIKEET_INLINE __device__ __forceinline__

namespace lorikeet::cuda {
namespace {

#include "core/elementwise-functions.h"

template <class F, class T>
__global__ void unary_fwd(const T* x, T* y, int64_t n, double p, double q) {
  using C = compute_t<T>;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    store(y + i, F::template forward<C>(load(x + i), static_cast<C>(p), static_cast<C>(q)));
  }
}

template <class F, class T>
__global__ void unary_bwd(const T* saved, const T* dy, T* dx, int64_t n, double p, double q) {
  using C = compute_t<T>;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    store(dx + i, load(dy + i) * F::template derivative<C>(load(saved + i), static_cast<C>(p), static_cast<C>(q)));
  }
}

template <class F, class T>
void launch(const UnaryArgs& a) {
  if (a.n == 0) return;
  auto x = static_cast<const T*>(a.x);
  auto out = static_cast<T*>(a.out);
  if (a.dy == nullptr) {
    unary_fwd<F, T><<<blocks_for(a.n), kThreads, 0, stream()>>>(x, out, a.n, a.p, a.q);
  } else {
    unary_bwd<F, T><<<blocks_for(a.n), kThreads, 0, stream()>>>(x, static_cast<const T*>(a.dy), out, a.n, a.p, a.q);
  }
}

void launch_unary(const UnaryArgs& a) {
  switch (a.op) {
#define LORIKEET_CASE(name, ...) \
  case UnaryOp::name##_op: LORIKEET_FLOAT_SWITCH(a.dtype, T, (launch<name##_functor, T>(a))) break;
    LORIKEET_UNARY_OPS(LORIKEET_CASE)
#undef LORIKEET_CASE
    case UnaryOp::count: break;
  }
}

void launch_unary_backward(const UnaryArgs& a) { launch_unary(a); }

}  // namespace
}  // namespace lorikeet::cuda

using lorikeet::cuda::launch_unary;
using lorikeet::cuda::launch_unary_backward;
LORIKEET_CUDA_KERNEL("unary", launch_unary)
LORIKEET_CUDA_KERNEL("unary backward", launch_unary_backward)
