#!/usr/bin/env bash
# Builds, tests and measures on a machine with an NVIDIA GPU, in one go, and keeps the results.
#   scripts/gpu.sh all                what follows, one after the other
#   scripts/gpu.sh ops [FILTER]       every CUDA kernel against the CPU's, and the executor's own tests
#   scripts/gpu.sh parity [FILTER]    whole models against the reference frameworks' goldens, in fp32 and fp16
#   scripts/gpu.sh sanitize [FILTER]  the kernels' tests under compute-sanitizer: memcheck, then racecheck
#   scripts/gpu.sh bench [OPTIONS]    bench/gpu.py: figures beside PyTorch's, on the same machine
# FILTER is GoogleTest's. Logs and figures land in OSPREY_GPU_OUT (build/gpu), the report also in bench/results,
# dated. Programs are built first, unless OSPREY_GPU_BIN names a folder that has them, as a bundle does
# (scripts/gpu_bundle.sh). GPU_JOBS: test processes at a time (4). GPU_SECONDS: at most so long for each (600).
set -uo pipefail
cd "$(dirname "$0")/.."

out=${OSPREY_GPU_OUT:-build/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export OSPREY_REQUIRE_GPU=1  # a test that skips for want of a GPU fails

if [[ -z ${OSPREY_GPU_BIN:-} && " all ops parity sanitize bench " == *" ${1:-} "* ]]; then
  cmake --preset release -DOSPREY_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native > "$out/build.log" &&
    cmake --build build/release --target osprey test_cuda test_parity >> "$out/build.log" ||
    { tail -30 "$out/build.log" >&2; exit 1; }
  OSPREY_GPU_BIN=build/gpu-bin
  mkdir -p "$OSPREY_GPU_BIN"
  ln -sf "$PWD"/build/release/{osprey,tests/test_cuda,tests/test_parity} "$OSPREY_GPU_BIN/"
fi
bin=$(cd "${OSPREY_GPU_BIN:-.}" && pwd)
libraries=${OSPREY_GPU_LIBRARIES:+LD_LIBRARY_PATH=$OSPREY_GPU_LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}

# Runs a command with our libraries, which the shell's own tools must not see.
ours() { env ${libraries:+"$libraries"} "$@"; }

conditions() {
  echo "date: $(date -u '+%Y-%m-%d %H:%M') UTC"
  echo "commit: ${OSPREY_COMMIT:-$(git describe --always --dirty 2>/dev/null)}"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | sed 's/^/gpu: /'
  ours "$bin/osprey" doctor 2>/dev/null | grep -E '^(cuda|cudnn|cublaslt|driver|gpu)' | sed 's/^/doctor: /'
  echo "command: scripts/gpu.sh $*"
}

# tests NAME suite|test PROGRAM FILTER [COMMAND...]: runs the tests, each suite (or test) in a process of its own,
# since a kernel that faults takes its process's GPU context along; COMMAND is put before the program.
tests() {
  local name=$1 unit=$2 program=$3 filter=$4 start=$SECONDS; shift 4
  local parts="$out/$name" log="$out/$name.log" part number=0 status=0
  rm -rf "$parts"; mkdir -p "$parts"
  ours "$program" --gtest_list_tests --gtest_filter="$filter" |
    awk -v unit="$unit" '/^[^ ]+\.( |$)/ {suite = $1; if (unit == "suite") print suite "*"}
                         /^  / && unit == "test" {print suite $1}' > "$parts/list"
  while read -r part; do
    while (($(jobs -rp | wc -l) >= ${GPU_JOBS:-4})); do wait -n; done
    {
      echo "== $part"
      ours timeout -k 10 "${GPU_SECONDS:-600}" "$@" "$program" --gtest_filter="$part" 2>&1
      echo $? > "$parts/$number.status"
    } > "$parts/$number.log" < /dev/null &
    number=$((number + 1))
  done < "$parts/list"
  wait
  { conditions "$name"; for ((i = 0; i < number; ++i)); do cat "$parts/$i.log"; done; } > "$log"
  for ((i = 0; i < number; ++i)); do
    [[ $(cat "$parts/$i.status") == 0 ]] && continue
    status=1
    printf '%s (status %s):\n' "$(head -1 "$parts/$i.log")" "$(cat "$parts/$i.status")"
    grep -E -A4 'Failure$|SUMMARY|terminate|unknown file' "$parts/$i.log" | grep -vE '^\[|^--$' | cut -c1-300 | head -16
    grep -E '^\[  FAILED  \] .* \([0-9]+ ms\)' "$parts/$i.log" | cut -c1-150 | head -8
  done
  rm -r "$parts"
  printf '%s: %s; %d passed, %d failed, %d skipped, in %d processes and %d s; %s\n' "$name" \
    "$([[ $status == 0 && $number != 0 ]] && echo passed || echo FAILED)" "$(grep -c '^\[       OK' "$log")" \
    "$(grep -cE '^\[  FAILED  \] .* \([0-9]+ ms\)' "$log")" "$(grep -cE '^\[  SKIPPED \] .* \([0-9]+ ms\)' "$log")" \
    "$number" "$((SECONDS - start))" "$log"
  return $((status || number == 0))
}

ops() { tests ops suite "$bin/test_cuda" "${1:-*}"; }
parity() { tests parity test "$bin/test_parity" "${1:-*Cuda*}"; }

# cuDNN's, cuBLAS's and nvJPEG's kernels are not ours to check, and take minutes: memcheck leaves out suites that run
# them. racecheck is about shared memory, and is for the suites of kernels that have some.
sanitize() {
  local memory='*-CudaConv.*:CudaConvTranspose.*:CudaLinear.*:*CudaExecutor*:*Jpeg.*:Tuner.*:CudaSchedule.*'
  local races='*ConvGroup.*:*DecodeKeypoints.*:*Nms.*:*Image.*:*PasteMasks.*:*RescaleBoxes.*:*RoiAlign.*:*Select*.*:*StemConv.*'
  local check=(compute-sanitizer --error-exitcode 9 --print-limit 20 --tool) status=0
  local GPU_SECONDS=${GPU_SECONDS:-150}
  tests memcheck test "$bin/test_cuda" "${1:-$memory}" "${check[@]}" memcheck || status=1
  tests racecheck test "$bin/test_cuda" "${1:-$races}" "${check[@]}" racecheck || status=1
  return $status
}

bench() {
  conditions "bench $*" > "$out/conditions.txt"
  python3 bench/gpu.py --osprey "$bin/osprey" --conditions "$out/conditions.txt" --out "$out" --record "$@"
}

status=0
case ${1:-} in
  ops | parity | sanitize | bench) "$@" || status=1 ;;
  all) for step in ops parity sanitize bench; do "$step" || status=1; done ;;
  *) sed -n '2,11s/^# *//p' "$0" >&2; exit 2 ;;
esac
exit $status
