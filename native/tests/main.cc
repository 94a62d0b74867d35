#include <cstring>

#include "core/kernel.h"
#include "tests/harness.h"

// Runs all native tests, or those whose name contains the first argument.

int main(int count, char** arguments) {
  using namespace lorikeet::tests;
  lorikeet::fill_kernel_slots();
  int run = 0;
  for (const Case& test : cases()) {
    if (count > 1 && std::strstr(test.name, arguments[1]) == nullptr) continue;
    const int before = failures;
    test.run();
    ++run;
    std::printf("%s %s\n", failures == before ? "passed" : "FAILED", test.name);
  }
  std::printf("%d native tests, %d failed checks\n", run, failures);
  return failures == 0 ? 0 : 1;
}
