#!/usr/bin/env bash
# Style as errors on our code: `lint.sh [format|tidy]`, both without an argument; prints what it finds and exits
# with another status than 0. Needs scripts/setup.sh --dev, and for tidy a built build/release.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
case $what in
  all | format | tidy) ;;
  *) sed -n '2,3s/^# *//p' "$0" >&2; exit 2 ;;
esac

if [[ $what != tidy ]]; then
  git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run -Werror
  python3 scripts/check_includes.py
fi

# clang-tidy of one file, unless neither it, nor any header, nor the list of checks has changed since it was clean.
check() {
  local mark log
  mark=build/tidy/$(tr / _ <<< "$1").$(cat "$1" "$headers" .clang-tidy | sha256sum | cut -c1-16)
  [[ -e $mark ]] && return 0
  # The flags in build/release are GCC's; clang knows not all of its warnings by name.
  if log=$(clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p build/release "$1" 2>&1); then
    touch "$mark"
  else
    printf '%s\n%s\n' "$1:" "$log"
    return 1
  fi
}

if [[ $what != format ]]; then
  if [[ ! -e build/release/compile_commands.json || ! -e build/release/generated/engine_generated.h ]]; then
    echo "lint: clang-tidy reads build/release, which is not built; run make build first" >&2
    exit 2
  fi
  mkdir -p build/tidy
  export -f check
  export headers=build/tidy/headers
  git ls-files '*.h' | xargs sha256sum > "$headers"
  # What this build leaves out (src/cuda, without the toolkit) has no flags to be read with.
  files=$(git ls-files 'src/*.cpp' | grep -v '_test\.cpp$')
  built=$(grep -o '"file": "[^"]*"' build/release/compile_commands.json | sed "s|.*\"$PWD/||; s|\"$||" | sort)
  left=$(comm -23 <(sort <<< "$files") - <<< "$built" | wc -l)
  ((left == 0)) || echo "lint: $left files are not part of this build and were not read"
  comm -12 <(sort <<< "$files") - <<< "$built" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
fi
