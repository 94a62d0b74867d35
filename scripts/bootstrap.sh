#!/bin/sh
# Makes a fresh machine ready: Node version, system packages, node_modules. Usage: sh scripts/bootstrap.sh [--native] [--lint]
#   --native  what compiling the addon needs     --lint  clang-format and clang-tidy
# On Debian and Ubuntu missing packages are installed when root; otherwise the exact command is printed.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "bootstrap: $*" >&2; }
stop() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

have node || stop "Node.js 20.19 or newer is needed (https://nodejs.org)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  stop "Node.js is too old; got $(node --version), expected 20.19 or newer"
have npm || stop "npm is needed; install it with Node.js"

packages=
need() { case "$packages " in *" $1 "*) ;; *) packages="$packages $1" ;; esac; }
find_openblas() {
  for folder in /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib /opt/OpenBLAS/lib; do
    for library in "$folder/openblas-serial/libopenblas.a" "$folder/libopenblas.a"; do
      # One built with threads would bring a second pool, which spins against ours.
      [ -e "$library" ] && ! grep -q blas_thread_server "$library" && return 0
    done
  done
  return 1
}
for flag in "$@"; do
  case $flag in
    --native)
      have "${CXX:-c++}" || need g++
      have cmake || need cmake
      have ninja || need ninja-build
      [ "$(uname -s)" != Linux ] || find_openblas || need libopenblas-serial-dev
      ;;
    --lint)
      have clang-format-14 || need clang-format-14
      have clang-tidy-14 || need clang-tidy-14
      have "${CXX:-c++}" || need g++
      have cmake || need cmake
      have ninja || need ninja-build
      ;;
    *) stop "unknown option $flag; expected --native or --lint" ;;
  esac
done

if [ -n "$packages" ]; then
  command="apt-get update && apt-get install -y --no-install-recommends$packages"
  have apt-get || stop "missing system packages, by their Debian names:$packages"
  [ "$(id -u)" = 0 ] || stop "missing system packages; install them with: sudo sh -c '$command'"
  say "installing$packages"
  # shellcheck disable=SC2086
  { DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } </dev/null >&2 ||
    stop "the installation failed; try: $command"
fi

case " $* " in
  *" --native "*)
    # _Float16 in C++ and AVX-512-BF16 came with GCC 12.
    if "${CXX:-c++}" --version | grep -q 'Free Software Foundation'; then
      version=$("${CXX:-c++}" -dumpversion | cut -d. -f1)
      [ "$version" -ge 12 ] || stop "the C++ compiler is too old; got GCC $version, expected 12 or newer (choose another with CXX=g++-12)"
    fi
    ;;
esac

# node_modules carries a copy of the lock file it was made from. A linked folder belongs to someone else and stays as it is.
stamp=node_modules/.lorikeet-lock.json
if [ ! -L node_modules ] && ! cmp -s package-lock.json "$stamp"; then
  say "installing node_modules"
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2
  cp package-lock.json "$stamp"
fi
