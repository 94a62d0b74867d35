#!/bin/sh
# Builds the engine and its native tests for 64-bit Arm and runs them under qemu-user: `sh scripts/test-arm64.sh [part of a test's name]`.
# Needs Debian's g++-aarch64-linux-gnu and qemu-user, and the static OpenBLAS of arm64: libopenblas-serial-dev:arm64 (after
# `dpkg --add-architecture arm64 && apt-get update`), or its path in LORIKEET_ARM64_OPENBLAS.
set -eu
cd "$(dirname "$0")/.."

for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake ninja; do
  if ! command -v "$tool" >/dev/null; then
    echo "test-arm64: $tool is missing; on Debian: apt-get install -y g++-aarch64-linux-gnu qemu-user cmake ninja-build" >&2
    exit 1
  fi
done
openblas="${LORIKEET_ARM64_OPENBLAS:-/usr/lib/aarch64-linux-gnu/openblas-serial/libopenblas.a}"
if [ ! -f "$openblas" ]; then
  echo "test-arm64: $openblas is missing; on Debian: dpkg --add-architecture arm64 && apt-get update && apt-get install -y libopenblas-serial-dev:arm64" >&2
  exit 1
fi

cmake -S . -B build-arm64 -G Ninja --toolchain cmake/aarch64-linux-gnu.cmake "-DLORIKEET_OPENBLAS=$openblas" >/dev/null
ninja -C build-arm64 native_tests
qemu-aarch64 -L /usr/aarch64-linux-gnu build-arm64/native_tests "$@"
