#include "core/level.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/tiles.h"

namespace lorikeet {
namespace {

Level detect() {
#if defined(__x86_64__)
  // These builtins check the operating-system state (XGETBV) as well as the CPU flags.
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Level::scalar;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl")) {
    return Level::avx2;
  }
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vnni")) return Level::avx512;
  return tiles_emulated() || machine_has_tiles() ? Level::amx_bf16 : Level::avx512_bf16;
#elif defined(__aarch64__)
  return Level::neon;
#else
  return Level::scalar;
#endif
}

/// `scalar, avx2 or avx512`
std::string level_list() {
  std::string list = kLevelNames[0];
  for (int i = 1; i < kLevels; ++i) list += std::string(i + 1 < kLevels ? ", " : " or ") + kLevelNames[i];
  return list;
}

Level limited(Level machine) {
  const char* wanted = std::getenv("LORIKEET_MAX_ISA");
  if (wanted == nullptr || *wanted == '\0') return machine;
  for (int i = 0; i < kLevels; ++i) {
    Level level = static_cast<Level>(i);
    if (std::string(wanted) == name_of(level)) return level < machine ? level : machine;
  }
  fail(ErrorCode::invalid_argument, "LORIKEET_MAX_ISA: unknown level; got \"", wanted, "\", expected ", level_list());
}

std::atomic<int>& active() {
  static std::atomic<int> level{static_cast<int>(limited(machine_level()))};
  return level;
}

}  // namespace

Level machine_level() {
  static const Level level = detect();
  return level;
}

Level active_level() { return static_cast<Level>(active().load(std::memory_order_relaxed)); }

void set_active_level(Level level) {
  check_argument(level <= machine_level(), "setIsaLevel: this machine cannot run it; got ", name_of(level), ", expected at most ",
                 name_of(machine_level()));
  active().store(static_cast<int>(level), std::memory_order_relaxed);
}

}  // namespace lorikeet
