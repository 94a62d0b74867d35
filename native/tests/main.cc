#include <cstdlib>
#include <cstring>

#include "core/kernel.h"
#include "core/tiles.h"
#include "tests/harness.h"

// Runs all native tests, or those whose name contains the first argument. Tile products are emulated where the machine has no tiles.

int main(int count, char** arguments) {
  using namespace lorikeet::tests;
  if (!lorikeet::machine_has_tiles()) setenv("LORIKEET_EMULATE_TILES", "1", 0);
  lorikeet::fill_kernel_slots();
  std::printf("levels up to %s%s\n", name_of(lorikeet::machine_level()), lorikeet::tiles_emulated() ? ", tiles emulated" : "");
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
