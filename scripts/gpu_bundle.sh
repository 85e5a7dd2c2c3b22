#!/usr/bin/env bash
# Packs what was built here for a GPU machine that cannot build it: programs, the libraries they need (all but the
# C and C++ runtimes and NVIDIA's, which that machine has), fixtures, and the scripts.
#   scripts/gpu_bundle.sh [--build build/release] [--output carry/gpu.tar.xz] [--without-demo] [--tuning FILE] [PROGRAM...]
# There:
#   tar -xJf gpu.tar.xz -C /tmp && /tmp/osprey-gpu/run.sh all      (run.sh alone lists what else there is)
# PROGRAM: of the build folder, besides osprey, test_cuda and test_parity. OSPREY_FIXTURES: where fixtures are;
# BUNDLE_FIXTURES: which of its folders go along, where all of them are too much.
# --without-demo: run.sh is started in a checkout, whose assets/demo it takes. --tuning: the tuning.tar.gz that
# `gpu.sh brief` left on such a machine.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/release output=carry/gpu.tar.xz demo=yes tuning=
while [[ "${1:-}" == --* ]]; do
  case $1 in
    --build) build=$2 ;;
    --output) output=$2 ;;
    --tuning) tuning=$2 ;;
    --without-demo) demo=no; shift; continue ;;
    *) echo "gpu_bundle: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
fixtures=${OSPREY_FIXTURES:-../shared/fixtures}
programs=("$build/osprey" "$build/tests/test_cuda" "$build/tests/test_parity" "${@/#/$build/}")
for program in "${programs[@]}"; do
  [[ -x $program ]] || { echo "gpu_bundle: $program is not built" >&2; exit 1; }
done

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
stage=$work/osprey-gpu
mkdir -p "$stage"/{bin,lib,fixtures/coco,bench}

# Libraries by the names they are asked for. glibc's, libstdc++ and libgcc_s are newer there, and must be the
# system's own: other libraries there need them.
theirs='^(ld-linux|linux-vdso|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so|libcu|libnv)'
for program in "${programs[@]}"; do ldd "$program"; done |
  awk '$2 == "=>" && $3 ~ /^\// {print $1, $3} $3 == "not" {print "gpu_bundle: not found: " $1 > "/dev/stderr"}' |
  sort -u | grep -Ev "$theirs" | while read -r name file; do
    cp -L "$file" "$stage/lib/$name"; chmod u+w "$stage/lib/$name"
    strip --strip-unneeded "$stage/lib/$name" 2>/dev/null || true
  done
for program in "${programs[@]}"; do strip -o "$stage/bin/${program##*/}" "$program"; done

# pack FOLDER LEVEL: a stream of its own, which is kept, since compressing takes most of the time and these rarely
# change; prints its name. Streams of xz may follow one another; all archives but the last go without their end marker.
pack() {
  local key file
  key=$(cd "$stage/$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
  file=$build/gpu-$1-$key.tar.xz
  if [[ ! -f $file ]]; then
    rm -f "$build/gpu-$1"-*.tar.xz
    tar -C "$work" -cf "$work/part.tar" "osprey-gpu/$1"
    python3 - "$work/part.tar" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    last = archive.getmembers()[-1]
with open(sys.argv[1], "r+b") as file:
    file.truncate((last.offset_data + last.size + 511) // 512 * 512)
PYTHON
    xz "-$2" -T2 -c "$work/part.tar" > "$file.new"; mv "$file.new" "$file"
    rm "$work/part.tar"
  fi
  rm -r "${stage:?}/$1"
  echo "$file"
}

for folder in ${BUNDLE_FIXTURES:-detectron2 tfod efficientdet paddle images coco/val64}; do
  cp -rL "$fixtures/$folder" "$stage/fixtures/${folder%"${folder##*/}"}"
done
chmod -R u+w "$stage"
# Of the real SSD the average precision is measured alone.
rm -f "$stage"/fixtures/tfod/real_*/{golden.npz,tf_detections.json,trace.json} "$stage"/fixtures/{tfod,efficientdet}/*/variables.tsv
[[ $demo == no ]] || { mkdir -p "$stage/assets"; cp -r assets/demo "$stage/assets/"; }
[[ -z $tuning ]] || cp "$tuning" "$stage/tuning.tar.gz"
cp -r bench/*.py "$stage/bench/"
mkdir "$stage/scripts"; cp scripts/gpu.sh "$stage/scripts/"
git log -1 --format=%h > "$stage/commit"
cp scripts/gpu_bundle_run.sh "$stage/run.sh"; chmod +x "$stage/run.sh"

mkdir -p "$(dirname "$output")"
libraries=$(pack lib 6) cases=$(pack fixtures 6)
{ cat "$libraries" "$cases"; tar -C "$work" -c osprey-gpu | xz -6 -T2; } > "$output.new"
mv "$output.new" "$output"
printf 'gpu_bundle: %s, %s MiB\n' "$output" "$(($(stat -c %s "$output") / 1048576))" >&2
