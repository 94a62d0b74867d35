#pragma once

// The tile policy of AMX: one function per instruction, tile registers named by template arguments. A region of tile code begins with
// configure and ends with release, so that idle threads carry no tile state. The portable twin is tile-emulated.h.

#include <cstdint>
#include <cstring>

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
struct AmxTiles {
  /// Gives tiles 0 to 7 their rows; every row has 64 bytes. All tiles become zero.
  LORIKEET_INLINE static void configure(const uint8_t (&rows)[8]) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int t = 0; t < 8; ++t) {
      config.row_bytes[t] = rows[t] > 0 ? 64 : 0;
      config.rows[t] = rows[t];
    }
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  LORIKEET_INLINE static void release() { asm volatile("tilerelease" ::: "memory"); }

  template <int Tile>
  LORIKEET_INLINE static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
  }
  /// Rows of 64 bytes that lie `stride` bytes apart, as many as the tile has.
  template <int Tile>
  LORIKEET_INLINE static void load(const void* rows, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(Tile) : "memory");
  }
  template <int Tile>
  LORIKEET_INLINE static void store(void* rows, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(Tile) : "memory");
  }
  /// C += A · B in f32: rows of A are bf16 pairs, row k of B holds the pair k of every column.
  template <int C, int A, int B>
  LORIKEET_INLINE static void dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
  /// The same in i32 for groups of four signed bytes.
  template <int C, int A, int B>
  LORIKEET_INLINE static void dot_i8() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
};
#endif

}  // namespace lorikeet::LORIKEET_LEVEL
