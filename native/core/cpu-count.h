#pragma once

namespace lorikeet {

/// CPUs this process may use: LORIKEET_THREADS, or the smaller of the affinity mask and the cgroup quota (rounded up); at least 1.
int allowed_cpus();

}  // namespace lorikeet
