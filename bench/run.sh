#!/usr/bin/env bash
# Measures Osprey against its peers from PyPI, in a throw-away environment under build/, and writes a report.
#   bench/run.sh                        every part: dense whole open eval tensorflow paddle int8
#   bench/run.sh dense --rounds 5       one part, with its script's own options (--help lists them)
#   bench/run.sh --record               and keep the reports in bench/results
# OSPREY_BENCH_VENV names an environment that already has bench/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

parts=()
while [[ "${1:-}" =~ ^(dense|whole|open|import|eval|tensorflow|paddle|int8)$ ]]; do parts+=("${1/import/open}"); shift; done
((${#parts[@]})) || parts=(dense whole open eval tensorflow paddle int8)
# import and open are one script.
mapfile -t parts < <(printf '%s\n' "${parts[@]}" | awk '!seen[$0]++')

venv=${OSPREY_BENCH_VENV:-build/bench-venv}
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv" || { echo "bench: python3 -m venv failed; install python3-venv" >&2; exit 1; }
fi
if [[ -z ${OSPREY_BENCH_VENV:-} ]] && ! cmp -s bench/requirements.txt "$venv/installed"; then
  echo "bench: installing the peers into $venv" >&2
  "$venv/bin/pip" install -q --disable-pip-version-check -r bench/requirements.txt
  cp bench/requirements.txt "$venv/installed"
fi

cmake --preset release > /dev/null
cmake --build build/release --target osprey bench_dense bench_peak bench_coco_eval >&2

report=build/bench-report.md
: > "$report"
for part in "${parts[@]}"; do
  case $part in
    dense) script=(bench/dense_peers.py "$@") ;;
    whole) script=(bench/whole_peers.py "$@") ;;
    open) script=(bench/open_import.py "$@") ;;
    tensorflow) script=(bench/tensorflow_peers.py "$@") ;;
    paddle) script=(bench/paddle_peers.py "$@") ;;
    int8) script=(bench/int8_peers.py "$@") ;;
    eval) script=(bench/coco_eval.py --program build/release/bench/bench_coco_eval)
      [[ ${#parts[@]} == 1 && "${1:-}" != --record ]] && script+=("$@") ;;
  esac
  "$venv/bin/python" "${script[@]}" | tee -a "$report"
  echo >> "$report"
done
echo "bench: the report is in $report" >&2
