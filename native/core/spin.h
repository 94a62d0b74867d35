#pragma once

#include <chrono>

namespace lorikeet {

/// How long a thread of the engine stays awake when it has nothing to do: longer than the pauses between ops that follow each other, short
/// beside what waking a sleeping thread costs everybody else.
inline constexpr auto kSpinTime = std::chrono::microseconds(100);

/// Spins for a bounded time until `done()`; true if it came true.
template <class Done>
bool spin_until(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

}  // namespace lorikeet
