#pragma once

namespace lorikeet {

/// CPU instruction levels, lowest first. `scalar` is the baseline of the platform (SSE2 on x86-64).
enum class Level : int { scalar, avx2, avx512, avx512_bf16 };

inline constexpr int kLevels = 4;

constexpr const char* name_of(Level level) {
  constexpr const char* names[kLevels] = {"scalar", "avx2", "avx512", "avx512-bf16"};
  return names[static_cast<int>(level)];
}

/// The highest level this machine can run (CPU flags and operating-system state).
Level machine_level();

/// The level in force: the machine's, lowered by LORIKEET_MAX_ISA (`scalar`, `avx2`, `avx512`, `avx512-bf16`) read when the addon loads.
Level active_level();

/// For tests: changes the level in force. Throws if the machine cannot run it. The stream must be idle.
void set_active_level(Level level);

}  // namespace lorikeet
