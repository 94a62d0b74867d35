#include "core/tiles.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lorikeet {
namespace {

// From asm/prctl.h of Linux 5.16 and later.
constexpr int kGetPermission = 0x1022;
constexpr int kRequestPermission = 0x1023;
constexpr unsigned long kTileDataState = 18;

bool is_permitted(const TileSystem& system) {
  unsigned long states = 0;
  if (system.arch_prctl(kGetPermission, reinterpret_cast<unsigned long>(&states)) != 0) return false;
  return (states >> kTileDataState & 1) != 0;
}

#if defined(__x86_64__) && defined(__linux__)
bool cpu_has_tiles() {
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1) == 0) return false;  // OSXSAVE
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const unsigned needed = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, AMX-TILE, AMX-INT8
  if ((d & needed) != needed) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned states = 1u << 17 | 1u << 18;  // tile configuration, tile data
  return (low & states) == states;
}

long linux_arch_prctl(int code, unsigned long argument) { return syscall(SYS_arch_prctl, code, argument); }
#endif

}  // namespace

bool request_tiles(const TileSystem& system) {
  if (!system.cpu_has_tiles()) return false;
  if (is_permitted(system)) return true;
  if (system.arch_prctl(kRequestPermission, kTileDataState) != 0) return false;
  return is_permitted(system);
}

bool machine_has_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool has = request_tiles({cpu_has_tiles, linux_arch_prctl});
  return has;
#else
  return false;
#endif
}

bool tiles_emulated() {
  static const bool emulated = [] {
    const char* value = std::getenv("LORIKEET_EMULATE_TILES");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return emulated;
}

}  // namespace lorikeet
