#pragma once

#include <cstdint>

namespace lorikeet {

/// Bytes handed out by the caching allocator of the process.
struct MemoryStats {
  int64_t live;    // in use now
  int64_t peak;    // highest `live` since the last reset
  int64_t cached;  // held by the allocator, not in use
  int64_t limit;   // 0 = none
};

/// 64-byte aligned memory (2 MiB aligned and on huge pages from 2 MiB up), contents undefined. Throws out_of_memory when the limit or the
/// machine is exhausted, after giving cached blocks back. Thread-safe.
void* allocate_memory(int64_t bytes);
void release_memory(void* memory, int64_t bytes);

MemoryStats memory_stats();
void reset_peak_memory();
/// Limit on live bytes; 0 removes it.
void set_memory_limit(int64_t bytes);
/// Returns cached memory to the operating system: large blocks, and slabs without a small block in use.
void trim_memory();

}  // namespace lorikeet
