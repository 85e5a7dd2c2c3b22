#!/usr/bin/env bash
# Style as errors on our code: `lint.sh [format|tidy]`, both without an argument. Needs scripts/setup.sh --dev,
# and for tidy a configured build/release.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}

if [[ $what != tidy ]]; then
  git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run -Werror
  python3 scripts/check_includes.py
fi
if [[ $what != format ]]; then
  # Two translation units at a time; only what has changed since the last clean run is looked at again.
  mkdir -p build/tidy
  stamp() { echo "build/tidy/$(echo "$1" | tr / _).$( (cat .clang-tidy "$1"; git ls-files '*.h' | xargs cat) | sha256sum | cut -c1-16)"; }
  check() {
    local mark; mark=$(stamp "$1")
    [[ -e $mark ]] && return 0
    clang-tidy --quiet -p build/release "$1" 2> /dev/null && touch "$mark"
  }
  export -f check stamp
  git ls-files 'src/*.cpp' | grep -v _test.cpp | xargs -P "$(nproc)" -I{} bash -c 'check {}'
fi
