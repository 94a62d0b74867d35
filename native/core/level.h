#pragma once

namespace lorikeet {

// CPU instruction levels of this platform, lowest first. `scalar` is its baseline: SSE2 on x86-64. A level may fill only the kernels it is
// better at; the others are those of the next level below.
#if defined(__aarch64__)
enum class Level : int { scalar, neon };
inline constexpr int kLevels = 2;
inline constexpr const char* kLevelNames[kLevels] = {"scalar", "neon"};
/// Levels with a dot product of bf16 pairs.
constexpr bool has_pair_products(Level) { return false; }
#else
enum class Level : int { scalar, avx2, avx512, avx512_bf16, amx_bf16 };
inline constexpr int kLevels = 5;
inline constexpr const char* kLevelNames[kLevels] = {"scalar", "avx2", "avx512", "avx512-bf16", "amx-bf16"};
/// Levels with a dot product of bf16 pairs.
constexpr bool has_pair_products(Level level) { return level >= Level::avx512_bf16; }
#endif

constexpr const char* name_of(Level level) { return kLevelNames[static_cast<int>(level)]; }

/// The highest level this machine can run (CPU flags and operating-system state). With LORIKEET_EMULATE_TILES=1 (see core/tiles.h) a
/// machine of level avx512-bf16 counts as amx-bf16.
Level machine_level();

/// The level in force: the machine's, lowered by LORIKEET_MAX_ISA (one of kLevelNames) read when the addon loads.
Level active_level();

/// For tests: changes the level in force. Throws if the machine cannot run it. The stream must be idle.
void set_active_level(Level level);

}  // namespace lorikeet
