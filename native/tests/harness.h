#pragma once

#include <cstdio>
#include <vector>

// The native tests: NATIVE_TEST(name) { EXPECT(condition, "format", ...) }. main.cc runs all of them.

namespace lorikeet::tests {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

inline int failures = 0;

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

}  // namespace lorikeet::tests

#define NATIVE_TEST(name)                                                         \
  static void name();                                                             \
  static const ::lorikeet::tests::Registration name##_registration{#name, &name}; \
  static void name()

/// Notes a failure, described by a printf format, and goes on.
#define EXPECT(condition, ...)                                             \
  do {                                                                     \
    if (!(condition)) {                                                    \
      ++::lorikeet::tests::failures;                                       \
      std::printf("%s:%d: expected %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                            \
      std::printf("\n");                                                   \
    }                                                                      \
  } while (false)
