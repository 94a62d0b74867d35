#pragma once

// The tile policy without tile registers: the instructions of AMX in plain C++, as their manual pages define them, so that everything
// around them can be tested on any machine. What the processor faults on traps here: tiles that are not configured, shapes that do not fit.

#include <cstdint>
#include <cstring>

#include "cpu/level.h"

namespace lorikeet::LORIKEET_LEVEL {

struct EmulatedTiles {
  static constexpr int kRowWords = 16;
  struct Register {
    uint32_t words[16][kRowWords];
    int rows;  // 0: not configured
  };
  static inline constinit thread_local Register registers[8] = {};

  LORIKEET_INLINE static Register& at(int tile) {
    if (registers[tile].rows == 0) __builtin_trap();
    return registers[tile];
  }

  static void configure(const uint8_t (&rows)[8]) {
    for (int t = 0; t < 8; ++t) {
      if (rows[t] > 16) __builtin_trap();
      memset(registers[t].words, 0, sizeof registers[t].words);
      registers[t].rows = rows[t];
    }
  }
  static void release() {
    for (Register& tile : registers) tile.rows = 0;
  }

  template <int Tile>
  static void zero() {
    memset(at(Tile).words, 0, sizeof registers[Tile].words);
  }
  template <int Tile>
  static void load(const void* rows, int64_t stride) {
    Register& tile = at(Tile);
    memset(tile.words, 0, sizeof tile.words);
    for (int i = 0; i < tile.rows; ++i) memcpy(tile.words[i], static_cast<const char*>(rows) + i * stride, sizeof tile.words[i]);
  }
  template <int Tile>
  static void store(void* rows, int64_t stride) {
    const Register& tile = at(Tile);
    for (int i = 0; i < tile.rows; ++i) memcpy(static_cast<char*>(rows) + i * stride, tile.words[i], sizeof tile.words[i]);
  }

  /// Denormal numbers are zero, going in and coming out.
  LORIKEET_INLINE static float flushed(float value) {
    const uint32_t bits = float_to_bits(value);
    return bits_to_float((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
  }
  LORIKEET_INLINE static float low_half(uint32_t word) { return flushed(bits_to_float(word << 16)); }
  LORIKEET_INLINE static float high_half(uint32_t word) { return flushed(bits_to_float(word & 0xffff0000u)); }

  /// The even and the odd elements of a row are two chains of multiply-adds, whose sum is added to C.
  template <int C, int A, int B>
  static void dot() {
    Register &c = at(C), &a = at(A), &b = at(B);
    if (c.rows != a.rows || b.rows != kRowWords) __builtin_trap();
    for (int i = 0; i < c.rows; ++i) {
      float even[kRowWords] = {}, odd[kRowWords] = {}, sum[kRowWords];
      for (int k = 0; k < kRowWords; ++k) {
        const float a_even = low_half(a.words[i][k]), a_odd = high_half(a.words[i][k]);
        for (int j = 0; j < kRowWords; ++j) {
          even[j] = flushed(fma(a_even, low_half(b.words[k][j]), even[j]));
          odd[j] = flushed(fma(a_odd, high_half(b.words[k][j]), odd[j]));
        }
      }
      memcpy(sum, c.words[i], sizeof sum);
      for (int j = 0; j < kRowWords; ++j) sum[j] = flushed(flushed(sum[j]) + flushed(even[j] + odd[j]));
      memcpy(c.words[i], sum, sizeof sum);
    }
  }

  template <int C, int A, int B>
  static void dot_i8() {
    Register &c = at(C), &a = at(A), &b = at(B);
    if (c.rows != a.rows || b.rows != kRowWords) __builtin_trap();
    for (int i = 0; i < c.rows; ++i) {
      for (int k = 0; k < kRowWords; ++k) {
        for (int j = 0; j < kRowWords; ++j) {
          for (int byte = 0; byte < 32; byte += 8) {
            const auto left = static_cast<int8_t>(a.words[i][k] >> byte), right = static_cast<int8_t>(b.words[k][j] >> byte);
            c.words[i][j] += static_cast<uint32_t>(left * right);
          }
        }
      }
    }
  }
};

}  // namespace lorikeet::LORIKEET_LEVEL
