#!/usr/bin/env bash
# Fuzzes one target, or all of them one after the other, under ASan and UBSan.
#   scripts/fuzz.sh NAME|all [SECONDS]      NAME as in fuzz/<name>.cpp; 60 seconds each by default
# Findings land in build/fuzz/findings/<name>/. Add each to fuzz/corpus/<name>/ with its fix: it then is a test.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# < 1)); then
  sed -n '2,4s/^# *//p' "$0" >&2
  exit 2
fi
seconds=${2:-60}
names=()
for file in fuzz/*.cpp; do
  name=$(basename "$file" .cpp)
  [[ $name == replay_main ]] && continue
  [[ $1 == all || $1 == "$name" ]] && names+=("$name")
done
if ((${#names[@]} == 0)); then
  echo "fuzz: there is no fuzz/$1.cpp" >&2
  exit 2
fi

cmake --preset fuzz >/dev/null
targets=$(cmake --build build/fuzz --target help)
status=0
for name in "${names[@]}"; do
  # Targets whose libraries are not part of this build are passed over, visibly.
  if [[ $targets != *"fuzz_$name: "* ]]; then
    echo "fuzz: $name is not part of this build"
    continue
  fi
  cmake --build build/fuzz --target "fuzz_$name" -j "${JOBS:-2}"
  findings=build/fuzz/findings/$name work=build/fuzz/corpus/$name
  mkdir -p "$findings" "$work"
  seeds=(); [[ -d fuzz/corpus/$name ]] && seeds=("fuzz/corpus/$name")
  echo "fuzz: $name for $seconds s"
  # New inputs go to the first folder; the seeds are only read.
  "build/fuzz/fuzz/fuzz_$name" "$work" "${seeds[@]}" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -max_len="${MAX_LEN:-65536}" -artifact_prefix="$findings/" -print_final_stats=1 || status=1
done
exit $status
