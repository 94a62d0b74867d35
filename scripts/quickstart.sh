#!/bin/sh
# npm run quickstart: from a clean clone to a fine-tuned model. Compiles the addon unless a prebuilt one for this platform is there.
set -eu
cd "$(dirname "$0")/.."

# Whether prebuilds/ holds an addon for this machine.
prebuilt() { [ ! -e build/Release/lorikeet.node ] && [ -n "$(find "prebuilds/$(node -p 'process.platform + "-" + process.arch' 2>/dev/null)" -name "*.node" 2>/dev/null)" ]; }

if prebuilt; then
  sh scripts/bootstrap.sh
else
  sh scripts/bootstrap.sh --native
  npm run --silent build:native
fi
npm run --silent build:types
npm run --silent build:ts
npm run --silent build:tests
exec node --import ./scripts/no-network.mjs out/examples/quickstart.js "$@"
