#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LORIKEET_INLINE __host__ __device__ __forceinline__
#else
// Always inlined, so that no instruction-level build of a kernel file can leave behind a shared copy compiled with wider
// instructions than the machine has.
#define LORIKEET_INLINE [[gnu::always_inline]] inline
#endif

namespace lorikeet {

enum class DType : uint8_t { f64, f32, bf16, f16, i64, i32, u8, bool_ };

inline constexpr int kDTypes = 8;

constexpr int64_t size_of(DType dtype) {
  constexpr int64_t sizes[kDTypes] = {8, 4, 2, 2, 8, 4, 1, 1};
  return sizes[static_cast<int>(dtype)];
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* names[kDTypes] = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8", "bool"};
  return names[static_cast<int>(dtype)];
}

constexpr bool is_float(DType dtype) { return dtype <= DType::f16; }

/// bfloat16 storage: the upper half of a float, rounded to nearest even.
struct BFloat16 {
  uint16_t bits;
};

#if defined(__CUDACC__)
/// IEEE half storage; device code converts with intrinsics.
struct Float16 {
  uint16_t bits;
};
#elif defined(__aarch64__) && !defined(__clang__) && __GNUC__ < 13
using Float16 = __fp16;  // what C++ of these compilers calls it on Arm
#else
using Float16 = _Float16;
#endif

LORIKEET_INLINE float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

LORIKEET_INLINE uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

LORIKEET_INLINE BFloat16 to_bf16(float value) {
  uint32_t bits = float_to_bits(value);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  uint32_t quiet_nan = (bits >> 16) | 0x40u;
  bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return BFloat16{static_cast<uint16_t>(is_nan ? quiet_nan : rounded)};
}

// load/store: the type a value is computed in (float for the 16-bit types) to and from its storage type.
LORIKEET_INLINE double load(const double* p) { return *p; }
LORIKEET_INLINE float load(const float* p) { return *p; }
LORIKEET_INLINE float load(const BFloat16* p) { return bits_to_float(static_cast<uint32_t>(p->bits) << 16); }
LORIKEET_INLINE void store(double* p, double value) { *p = value; }
LORIKEET_INLINE void store(float* p, float value) { *p = value; }
LORIKEET_INLINE void store(BFloat16* p, float value) { *p = to_bf16(value); }
#if !defined(__CUDACC__)
LORIKEET_INLINE float load(const Float16* p) { return static_cast<float>(*p); }
LORIKEET_INLINE void store(Float16* p, float value) { *p = static_cast<Float16>(value); }
#endif

/// The type kernels compute in for a storage type: double for f64, float for f32, bf16 and f16.
template <class T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};
template <class T>
using compute_t = typename Compute<T>::type;

}  // namespace lorikeet

/// Calls `body` (a generic lambda taking a null T*) with the storage type of a floating dtype: used inside kernels, where a dtype has been
/// checked already.
#define LORIKEET_FLOAT_SWITCH(dtype, T, ...) \
  switch (dtype) {                           \
    case ::lorikeet::DType::f64: {           \
      using T = double;                      \
      __VA_ARGS__;                           \
      break;                                 \
    }                                        \
    case ::lorikeet::DType::f32: {           \
      using T = float;                       \
      __VA_ARGS__;                           \
      break;                                 \
    }                                        \
    case ::lorikeet::DType::bf16: {          \
      using T = ::lorikeet::BFloat16;        \
      __VA_ARGS__;                           \
      break;                                 \
    }                                        \
    case ::lorikeet::DType::f16: {           \
      using T = ::lorikeet::Float16;         \
      __VA_ARGS__;                           \
      break;                                 \
    }                                        \
    default: break;                          \
  }
