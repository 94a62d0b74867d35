#pragma once

// The names that core/elementwise-functions.h expects, for device code; and loads and stores of the 16-bit types.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/dtype.h"

namespace lorikeet::cuda {

__device__ __forceinline__ float vexp(float x) { return expf(x); }
__device__ __forceinline__ double vexp(double x) { return ::exp(x); }
__device__ __forceinline__ float vlog(float x) { return logf(x); }
__device__ __forceinline__ double vlog(double x) { return ::log(x); }
__device__ __forceinline__ float vtanh(float x) { return tanhf(x); }
__device__ __forceinline__ double vtanh(double x) { return ::tanh(x); }
__device__ __forceinline__ float vsigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ double vsigmoid(double x) { return 1.0 / (1.0 + ::exp(-x)); }
__device__ __forceinline__ float verf(float x) { return erff(x); }
__device__ __forceinline__ double verf(double x) { return ::erf(x); }
__device__ __forceinline__ float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fma(double a, double b, double c) { return __fma_rn(a, b, c); }

using ::lorikeet::load;
using ::lorikeet::store;
__device__ __forceinline__ float load(const Float16* p) { return __half2float(__ushort_as_half(p->bits)); }
__device__ __forceinline__ void store(Float16* p, float value) { p->bits = __half_as_ushort(__float2half_rn(value)); }

}  // namespace lorikeet::cuda
