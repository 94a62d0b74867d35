#include "core/placement.h"

#if defined(__linux__)
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>

namespace lorikeet {
namespace {

constexpr int kNowhere = -1;
/// Where everybody wants the same CPU, moving at every job would cost more than it gives.
constexpr auto kBetweenMoves = std::chrono::milliseconds(1);

struct Place {
  std::atomic<int> cpu{kNowhere};
};
std::array<Place, 256> places;  // of the threads of the pool; those beyond are left to the system

bool counts(int index) { return index < static_cast<int>(places.size()); }

/// Whether one of the first `count` threads is on it.
bool taken(int cpu, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (places[i].cpu.load(std::memory_order_relaxed) == cpu) return true;
  }
  return false;
}

/// Moves the calling thread to a CPU of `allowed` on which no thread of the pool is.
void move_apart(const cpu_set_t& allowed) {
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || taken(cpu, places.size())) continue;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    if (sched_setaffinity(0, sizeof only, &only) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
    return;
  }
}

}  // namespace

void take_place(int index) {
  if (counts(index)) places[index].cpu.store(sched_getcpu(), std::memory_order_relaxed);
}

void take_place_apart(int index) {
  if (!counts(index)) return;
  take_place(index);
  const int cpu = places[index].cpu.load(std::memory_order_relaxed);
  if (cpu < 0 || !taken(cpu, index)) return;
  thread_local std::chrono::steady_clock::time_point moved;
  const auto now = std::chrono::steady_clock::now();
  if (now - moved < kBetweenMoves) return;
  moved = now;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) move_apart(allowed);
  take_place(index);
}

void leave_place(int index) {
  if (counts(index)) places[index].cpu.store(kNowhere, std::memory_order_relaxed);
}

}  // namespace lorikeet

#else

namespace lorikeet {

void take_place(int) {}
void take_place_apart(int) {}
void leave_place(int) {}

}  // namespace lorikeet

#endif
