#!/usr/bin/env bash
# Runs every fuzz target of this bundle at once, each on a copy of its corpus (scripts/fuzz_bundle.sh packs it).
#   ./run.sh SECONDS [OUT]      logs, findings and new inputs go to OUT, ./out by default; ends with a table
# Exit status: 0, or 1 with findings, or with a target that did not run.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if (($# < 1)); then
  sed -n '2,4s/^# *//p' "$0" >&2
  exit 2
fi
seconds=$1 out=$(realpath -m "${2:-$here/out}")
mkdir -p "$out"
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# Kernels that spread addresses over 32 bits break the shadow memory of this clang's ASan, by chance.
fixed=()
setarch -R true 2> /dev/null && fixed=(setarch -R)
# Leaks are found by tracing the own threads, which some containers forbid; the rest of ASan works there.
probe=("$here"/bin/fuzz_*)
if "${fixed[@]}" "${probe[0]}" -runs=1 2>&1 | grep -q 'LeakSanitizer has encountered a fatal error'; then
  echo "run.sh: leaks cannot be looked for on this machine" >&2
  export ASAN_OPTIONS=detect_leaks=0
fi

run() {
  local name=$1 work=$out/$1
  mkdir -p "$work/corpus" "$work/findings" "$work/tmp"
  cp -r "$here/corpus/$name/." "$work/corpus/"
  # A finding ends a libFuzzer process: it starts again with what it has learnt, until the time is over.
  local end=$((SECONDS + seconds)) left
  while left=$((end - SECONDS)) && ((left > 0)); do
    TMPDIR=$work/tmp "${fixed[@]}" "$here/bin/fuzz_$name" "$work/corpus" -max_total_time="$left" -rss_limit_mb=2048 -timeout=20 \
      -max_len=65536 -artifact_prefix="$work/findings/" -print_final_stats=1 >> "$out/$name.log" 2>&1 && break
    [[ -n $(ls "$work/findings") ]] || break  # it did not even start
    (($(ls "$work/findings" | wc -l) < 20)) || break
  done
  rm -rf "$work/tmp"
}

names=()
for binary in "$here"/bin/fuzz_*; do
  name=${binary##*/fuzz_}
  names+=("$name")
  rm -rf "${out:?}/$name" "$out/$name.log"
  run "$name" &
done
wait

status=0
{
  printf '%-14s %14s %10s %8s %10s %9s\n' target executions exec/s edges corpus findings
  for name in "${names[@]}"; do
    log=$out/$name.log
    # A libFuzzer process that ends with a finding prints its statistics, too.
    executions=$(awk '/^stat::number_of_executed_units:/ {n += $2} END {print n + 0}' "$log")
    edges=$(grep -ao ' cov: [0-9]*' "$log" | awk '$2 > n {n = $2} END {print n + 0}')
    findings=$(ls "$out/$name/findings" | wc -l)
    ((findings == 0 && executions > 0)) || status=1
    printf '%-14s %14d %10d %8d %10d %9d\n' "$name" "$executions" $((executions / seconds)) "$edges" \
      "$(ls "$out/$name/corpus" | wc -l)" "$findings"
  done
} > "$out/summary.txt"
cat "$out/summary.txt"
exit $status
