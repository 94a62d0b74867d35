#!/bin/sh
# npm run quickstart: from a clean clone to a fine-tuned model, without opening the network.
set -eu
cd "$(dirname "$0")/.."
sh scripts/build-all.sh --prebuilt >&2
exec node --import ./scripts/no-network.mjs out/examples/quickstart.js "$@"
