#!/bin/sh
# Builds the native tests with sanitizers and runs them: `sh scripts/sanitize.sh` runs both kinds, `address` or `thread` one of them.
# address: AddressSanitizer + UndefinedBehaviorSanitizer (leaks included) over all native tests, at every instruction level.
# thread: ThreadSanitizer over stream, pool and tape; the kernels' level does not matter there.
set -eu
cd "$(dirname "$0")/.."

build() {
  cmake -S . -B "build-$1" -G Ninja "-DLORIKEET_SANITIZE=$2" "-DLORIKEET_ONLY_LEVELS=$3" >/dev/null
  ninja -C "build-$1" native_tests
}

case "${1:-all}" in
  all | address)
    build address address,undefined 'scalar;avx2;avx512;avx512_bf16;amx_bf16'
    # The pool and its scratch memory live as long as the process by design; they stay reachable and are no leaks.
    ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 ./build-address/native_tests
    ;;
esac
case "${1:-all}" in
  all | thread)
    build thread thread scalar
    for tests in pool scratch stream tape; do
      TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 ./build-thread/native_tests "$tests"
    done
    ;;
esac
