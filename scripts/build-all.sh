#!/bin/sh
# Makes the machine ready and compiles addon, library, tests, benches and examples; each step is quick when nothing changed. With --prebuilt an addon in
# prebuilds/ for this platform is used instead of compiling one.
set -eu
cd "$(dirname "$0")/.."

prebuilt() {
  [ ! -e build/Release/lorikeet.node ] || return 1
  [ -n "$(find "prebuilds/$(node -p 'process.platform + "-" + process.arch')" -name '*.node' 2>/dev/null)" ]
}

if [ "${1:-}" = --prebuilt ] && prebuilt; then
  sh scripts/bootstrap.sh
else
  sh scripts/bootstrap.sh --native
  npm run --silent build:native
fi
npm run --silent build:types
npm run --silent build:ts
npm run --silent build:tests
