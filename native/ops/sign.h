#pragma once

#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/tensor.h"
#include "ops/packed-weight.h"
#include "ops/sign-book.h"

namespace lorikeet {

// A matrix in 1, 2, 4 or 8 bits a value by the code book of a standard normal distribution (sign-book.h), standardised as a whole: with
// mean μ, standard deviation σ (n - 1 in the denominator) and ε = 1e-5, a value w has the code of z = (w - μ) / (σ + ε), which stands for
// v[code] σ + μ. A z on a threshold gets the lower code; rounded without codes it becomes the threshold itself. `name` says in errors what
// was quantised. Values that are not finite, and fewer than two different ones, fail when the work runs.

inline constexpr double kSignEpsilon = 1e-5;

/// The values of the code book, rising, f64 [2^bits].
Tensor sign_values(int64_t bits);

/// Codes [ceil(n bits / 8)] u8 of the n values in row-major order, the first one in the lowest bits of a byte, zeros at the end; and f32
/// [2] = (μ, σ).
std::vector<Tensor> sign_quantize(const Tensor& w, int64_t bits, const std::string& name);

/// What codes stand for, in `shape` and `dtype`: computed in f32, product and sum rounded one after the other, then rounded to dtype.
Tensor sign_unpack(const Tensor& codes, const Tensor& moments, const Shape& shape, int64_t bits, DType dtype);

/// A frozen weight [N, K] of codes of 1 bit, which it shares, in layout `blocks`; `dtype` is f32, bf16 or f16.
PackedWeightPtr pack_signs(const Tensor& codes, const Tensor& moments, const Shape& shape, DType dtype);

/// v σ + μ of every value of w, in its dtype. Differentiable with the values of the code book taken for z itself (straight through), and μ
/// and σ as functions of w: with a = σ / (σ + ε) and dy the gradient of the result,
///   dw = a dy + (1 - a) mean(dy) + Σ dy (v - a z) · (w - μ) / ((n - 1) σ).
Tensor fake_quantize(const Tensor& w, int64_t bits, const std::string& name);

/// moments = (μ, σ) of x [count], rounded to the type that kernels compute x in. Runs of a fixed length are joined in order.
struct SignMomentsArgs {
  DType dtype;
  const void* x;
  int64_t count;
  double* moments;
};
inline constinit Kernel<SignMomentsArgs> sign_moments_kernel{"signQuantize"};

struct SignArgs {
  DType dtype;
  const void* w;
  int64_t count;
  int64_t bits;
  const SignBook* book;
  double mean, deviation;
  const void* dy;  // backward
  void* out;       // rounded values, or the gradient
  uint8_t* codes;  // codes only
};
inline constinit Kernel<SignArgs> sign_codes_kernel{"signQuantize"};
inline constinit Kernel<SignArgs> sign_round_kernel{"fakeQuantize"};
inline constinit Kernel<SignArgs> sign_round_backward_kernel{"fakeQuantize backward"};

/// out[i] = table[code i].
struct SignUnpackArgs {
  const uint8_t* codes;
  const float* table;  // [2^bits]
  int64_t count, bits;
  void* out;
  DType dtype;
};
inline constinit Kernel<SignUnpackArgs> sign_unpack_kernel{"signUnpack"};

}  // namespace lorikeet
