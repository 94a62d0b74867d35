#pragma once

#include <cstdint>

namespace lorikeet {

inline constexpr int kMostSignValues = 256;

/// The code book "normal-median-500" of a standard normal distribution ("Revisiting the Parameter Efficiency of Adapters from the
/// Perspective of Precision Redundancy"): `count` rising values, each the median of its cell, cells split half-way between values, after
/// 500 rounds of k-medians from zeros. Symmetric to the last bit. In both types that kernels compute in.
struct SignBook {
  template <class C>
  struct Table {
    C values[kMostSignValues];
    C thresholds[kMostSignValues];  // [count]: half-way between values i and i + 1; the last is not a number
    C coarse[16];                   // [15]: of 256 values, every sixteenth threshold
  };
  int count;
  Table<double> wide;
  Table<float> narrow;

  explicit SignBook(int bits);
};

/// Made on the first call. `bits` is 1, 2, 4 or 8.
const SignBook& sign_book(int64_t bits);

}  // namespace lorikeet
