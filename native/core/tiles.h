#pragma once

namespace lorikeet {

/// What the tile registers of AMX ask of a machine; functions, so that tests can play other machines.
struct TileSystem {
  /// CPUID has tiles with bf16 and int8 products, and XGETBV says that the system keeps their state (a hypervisor can hide either).
  bool (*cpu_has_tiles)();
  /// The Linux call arch_prctl: 0, or a negative number when it fails.
  long (*arch_prctl)(int code, unsigned long argument);
};

/// Whether this process may use tiles. Linux gives their state to a process that asks for it, and may refuse (an old kernel, or a thread
/// with a small alternate signal stack): the answer is then false and nothing else happens.
bool request_tiles(const TileSystem& system);

/// request_tiles for this machine, asked once. False on systems other than Linux on x86-64.
bool machine_has_tiles();

/// LORIKEET_EMULATE_TILES=1: tile products run in plain C++ in place of the instructions. For tests of everything around them on machines
/// without; slow.
bool tiles_emulated();

}  // namespace lorikeet
