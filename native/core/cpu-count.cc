#include "core/cpu-count.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace lorikeet {
namespace {

/// The quota in CPUs of cgroup v2 or v1, or 0 without one.
double cgroup_quota() {
  std::string quota, period;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> quota >> period) {
    return quota == "max" ? 0 : std::atof(quota.c_str()) / std::atof(period.c_str());
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period) {
    double value = std::atof(quota.c_str());
    return value <= 0 ? 0 : value / std::atof(period.c_str());
  }
  return 0;
}

}  // namespace

int allowed_cpus() {
  if (const char* wanted = std::getenv("LORIKEET_THREADS")) {
    if (int threads = std::atoi(wanted); threads > 0) return threads;
  }
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = CPU_COUNT(&mask);
#endif
  if (double quota = cgroup_quota(); quota > 0) cpus = std::min(cpus, static_cast<int>(std::ceil(quota)));
  return std::max(cpus, 1);
}

}  // namespace lorikeet
