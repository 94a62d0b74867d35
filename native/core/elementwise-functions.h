// The functions of the unary ops and their derivatives, one line per row of core/elementwise.h. No include guard: a kernel file includes it
// inside its own namespace, where vexp, vlog, vtanh, vsigmoid, verf and fma name the fitting implementations (native/cpu/vector-math.h,
// native/cuda/device-math.cuh).

#define LORIKEET_UNARY(name, forward_expression, derivative_expression)                                     \
  struct name##_functor {                                                                                   \
    template <class T>                                                                                      \
    LORIKEET_INLINE static T forward(T x, [[maybe_unused]] T p, [[maybe_unused]] T q) {                     \
      return forward_expression;                                                                            \
    }                                                                                                       \
    /* v is the saved input or output, see core/elementwise.h */                                            \
    template <class T>                                                                                      \
    LORIKEET_INLINE static T derivative([[maybe_unused]] T v, [[maybe_unused]] T p, [[maybe_unused]] T q) { \
      return derivative_expression;                                                                         \
    }                                                                                                       \
  };

template <class T>
LORIKEET_INLINE T softplus_of(T x) {
  // log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
  return (x > T(0) ? x : T(0)) + std::log1p(vexp(x > T(0) ? -x : x));
}

constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kInvSqrt2Pi = 0.39894228040143267794;
constexpr double kGeluTanh = 0.79788456080286535588;

template <class T>
LORIKEET_INLINE T gelu_tanh_inner(T x) {
  return T(kGeluTanh) * fma(T(0.044715) * x * x, x, x);
}

template <class T>
LORIKEET_INLINE T gelu_tanh_derivative(T x) {
  T t = vtanh(gelu_tanh_inner(x));
  T inner = T(kGeluTanh) * fma(T(3 * 0.044715) * x, x, T(1));
  return fma(T(0.5) * x * (T(1) - t * t), inner, T(0.5) * (T(1) + t));
}

template <class T>
LORIKEET_INLINE T silu_derivative(T x) {
  T s = vsigmoid(x);
  return s * fma(x, T(1) - s, T(1));
}

// The rows stay as a table.
// clang-format off
LORIKEET_UNARY(affine, fma(p, x, q), p)
LORIKEET_UNARY(neg, -x, T(-1))
LORIKEET_UNARY(exp, vexp(x), v)
LORIKEET_UNARY(log, vlog(x), T(1) / v)
LORIKEET_UNARY(log1p, std::log1p(x), T(1) / (T(1) + v))
LORIKEET_UNARY(sqrt, std::sqrt(x), T(0.5) / v)
LORIKEET_UNARY(rsqrt, T(1) / std::sqrt(x), T(-0.5) * v * v * v)
LORIKEET_UNARY(square, x* x, T(2) * v)
LORIKEET_UNARY(reciprocal, T(1) / x, -v* v)
LORIKEET_UNARY(abs, x < T(0) ? -x : x, v > T(0) ? T(1) : (v < T(0) ? T(-1) : T(0)))
LORIKEET_UNARY(sign, x > T(0) ? T(1) : (x < T(0) ? T(-1) : x), T(0))
LORIKEET_UNARY(sin, std::sin(x), std::cos(v))
LORIKEET_UNARY(cos, std::cos(x), -std::sin(v))
LORIKEET_UNARY(tanh, vtanh(x), T(1) - v * v)
LORIKEET_UNARY(sigmoid, vsigmoid(x), v*(T(1) - v))
LORIKEET_UNARY(relu, x > T(0) || x != x ? x : T(0), v > T(0) ? T(1) : T(0))
LORIKEET_UNARY(gelu, T(0.5) * x * (T(1) + verf(x * T(kSqrtHalf))),
               fma(v * T(kInvSqrt2Pi), vexp(T(-0.5) * v * v), T(0.5) * (T(1) + verf(v * T(kSqrtHalf)))))
LORIKEET_UNARY(geluTanh, T(0.5) * x * (T(1) + vtanh(gelu_tanh_inner(x))), gelu_tanh_derivative(v))
LORIKEET_UNARY(silu, x* vsigmoid(x), silu_derivative(v))
LORIKEET_UNARY(softplus, softplus_of(x), vsigmoid(v))
LORIKEET_UNARY(logSigmoid, -softplus_of(-x), vsigmoid(-v))
LORIKEET_UNARY(pow, std::pow(x, p), p* std::pow(v, p - T(1)))
LORIKEET_UNARY(clamp, x < p ? p : (x > q ? q : x), v < p || v > q ? T(0) : T(1))
LORIKEET_UNARY(erf, verf(x), T(2) * T(kGeluTanh) * T(kSqrtHalf) * vexp(-v * v))
LORIKEET_UNARY(floor, std::floor(x), T(0))
LORIKEET_UNARY(round, std::nearbyint(x), T(0))
// clang-format on

#undef LORIKEET_UNARY
