#include "ops/sign-book.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace lorikeet {
namespace {

constexpr int kRounds = 500;

/// The probability that a standard normal number is above x.
double tail(double x) { return std::erfc(x * M_SQRT1_2) / 2; }

/// The x >= 0 whose tail is t in (0, 0.5]: a rational approximation (Abramowitz and Stegun 26.2.23), then steps of Halley's method.
double inverse_tail(double t) {
  const double s = std::sqrt(-2 * std::log(t));
  double x = s - (2.515517 + s * (0.802853 + s * 0.010328)) / (1 + s * (1.432788 + s * (0.189269 + s * 0.001308)));
  for (int step = 0; step < 3; ++step) {
    const double density = std::exp(-x * x / 2) * M_SQRT1_2 / std::sqrt(M_PI);
    const double error = (tail(x) - t) / density;
    x += error / (1 - x * error / 2);
  }
  return x;
}

template <class C>
void fill(const double* upper, int half, SignBook::Table<C>& table) {
  const int count = 2 * half;
  table.thresholds[count - 1] = std::numeric_limits<C>::quiet_NaN();
  for (int i = 0; i < half; ++i) {
    table.values[half + i] = static_cast<C>(upper[i]);
    table.values[half - 1 - i] = static_cast<C>(-upper[i]);
  }
  for (int i = 0; i + 1 < count; ++i) {
    const double low = i < half ? -upper[half - 1 - i] : upper[i - half], high = i + 1 < half ? -upper[half - 2 - i] : upper[i + 1 - half];
    table.thresholds[i] = static_cast<C>((low + high) / 2);
    if (count == kMostSignValues && i % 16 == 15) table.coarse[i / 16] = table.thresholds[i];
  }
}

}  // namespace

SignBook::SignBook(int bits) : count(1 << bits), wide(), narrow() {
  // The upper half alone: by symmetry the threshold in the middle is 0. tails[i] is the probability above the lower edge of cell i.
  const int half = count / 2;
  double upper[kMostSignValues / 2] = {}, tails[kMostSignValues / 2 + 1] = {};
  for (int round = 0; round < kRounds; ++round) {
    tails[0] = 0.5;
    for (int i = 1; i < half; ++i) tails[i] = tail((upper[i - 1] + upper[i]) / 2);
    tails[half] = 0;
    for (int i = 0; i < half; ++i) upper[i] = inverse_tail((tails[i] + tails[i + 1]) / 2);
  }
  fill(upper, half, wide);
  fill(upper, half, narrow);
}

const SignBook& sign_book(int64_t bits) {
  check_argument(bits == 1 || bits == 2 || bits == 4 || bits == 8, "signQuantize: bits must be 1, 2, 4 or 8; got ", bits);
  switch (bits) {
    case 1: {
      static const SignBook book(1);
      return book;
    }
    case 2: {
      static const SignBook book(2);
      return book;
    }
    case 4: {
      static const SignBook book(4);
      return book;
    }
    default: {
      static const SignBook book(8);
      return book;
    }
  }
}

}  // namespace lorikeet
