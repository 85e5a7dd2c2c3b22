#!/usr/bin/env bash
# Packs the built fuzz targets, their corpora and the libraries they need into one archive, for longer runs on another
# x86-64 machine whose glibc is not older than this one's.
#   scripts/fuzz_bundle.sh FILE.tar.xz [BUILD]     BUILD: the fuzz preset's folder, build/fuzz by default
# There: tar xf FILE.tar.xz && fuzz/run.sh SECONDS runs all targets at once, and ends with a table.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# < 1)); then
  sed -n '2,5s/^# *//p' "$0" >&2
  exit 2
fi
archive=$(realpath -m "$1") build=${2:-build/fuzz}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/fuzz
mkdir -p "$out/bin" "$out/lib" "$out/corpus"

for binary in "$build"/fuzz/fuzz_*; do
  [[ -f $binary && -x $binary ]] || continue
  name=$(basename "$binary")
  # Function names stay, for the stack of a finding; lines are found on the machine that has the source.
  strip --strip-debug -o "$out/bin/$name" "$binary"
  if [[ -d fuzz/corpus/${name#fuzz_} ]]; then
    cp -r "fuzz/corpus/${name#fuzz_}" "$out/corpus/"
  else
    mkdir "$out/corpus/${name#fuzz_}"
  fi
  # All but what belongs to the C library: that must be the other machine's own.
  ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
    grep -Ev '/(libc|libm|libpthread|libdl|librt|libresolv|ld-linux[^/]*)\.so' | while read -r library; do
    cp -nL "$library" "$out/lib/"
  done
done
[[ -n $(ls "$out/bin") ]] || { echo "fuzz_bundle: no targets in $build/fuzz; build the fuzz preset first" >&2; exit 1; }
strip --strip-unneeded "$out"/lib/*.so* 2>/dev/null || true
cp scripts/fuzz_bundle_run.sh "$out/run.sh"
git rev-parse HEAD > "$out/revision"

# The targets share most of their code: one window over all of them.
tar -C "$work" --sort=name --owner=0 --group=0 -cf - fuzz | xz -T1 --lzma2=preset=6e,dict=192MiB > "$archive"
du -h "$archive"
