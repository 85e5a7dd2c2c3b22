#!/usr/bin/env bash
# Builds, tests and measures on a machine with an NVIDIA GPU, in one go, and keeps the results.
#   scripts/gpu.sh all                what follows, one after the other
#   scripts/gpu.sh ops [FILTER]       every CUDA kernel against the CPU's, and the executor's own tests
#   scripts/gpu.sh parity [FILTER]    whole models against the reference frameworks' goldens, in fp32 and fp16
#   scripts/gpu.sh sanitize [FILTER]  the kernels' tests under compute-sanitizer: memcheck, then racecheck (each a step of its own, too)
#   scripts/gpu.sh bench [OPTIONS]    bench/gpu.py: figures beside PyTorch's, on the same machine
#   scripts/gpu.sh average            the real SSD's average precision on coco/val64, in fp32 and fp16
#   scripts/gpu.sh brief [SECONDS]    for a machine held for minutes: what says most first, no step begun after SECONDS (420)
# FILTER is GoogleTest's. Logs and figures land in OSPREY_GPU_OUT (build/gpu), the report also in bench/results,
# dated. Programs are built first, unless OSPREY_GPU_BIN names a folder that has them, as a bundle does
# (scripts/gpu_bundle.sh). GPU_JOBS: test processes at a time (4). GPU_SECONDS: at most so long for each (600).
# BRIEF_OPS, BRIEF_PARITY: filters of brief's tests; BRIEF_AVERAGE; each "none": skipped. BRIEF_CASES: of bench/gpu.py, in
# its order.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${OSPREY_GPU_OUT:-build/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export OSPREY_REQUIRE_GPU=1  # a test that skips for want of a GPU fails

if [[ -z ${OSPREY_GPU_BIN:-} && " all ops parity sanitize memcheck racecheck bench average brief " == *" ${1:-} "* ]]; then
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
  local parts log="$out/$name.log" part none number=0 status=0 left=0
  parts=$(mktemp -d)
  ours "$program" --gtest_list_tests --gtest_filter="$filter" |
    awk -v unit="$unit" '/^[^ ]+\.( |$)/ {suite = $1; if (unit == "suite") print suite "*"}
                         /^  / && unit == "test" {print suite $1}' > "$parts/list"
  while read -r part; do
    ((SECONDS - start < ${GPU_TOTAL:-86400})) || { left=$((left + 1)); continue; }
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
  none=$(for ((i = 0; i < number; ++i)); do grep -q '^short form: 0 cases ran' "$parts/$i.log" && head -1 "$parts/$i.log"; done)
  [[ -z $none ]] || echo "$name: no case short enough: ${none//$'\n'/ }"
  ((left == 0)) || { status=1; echo "$name: no time for $left of the suites or tests: $(tail -n "$left" "$parts/list" | tr '\n' ' ')"; }
  printf '%s: %s; %d passed, %d failed, %d skipped, in %d processes and %d s; %s\n' "$name" \
    "$([[ $status == 0 && $number != 0 ]] && echo passed || echo FAILED)" "$(grep -c '^\[       OK' "$log")" \
    "$(grep -cE '^\[  FAILED  \] .* \([0-9]+ ms\)' "$log")" "$(grep -cE '^\[  SKIPPED \] .* \([0-9]+ ms\)' "$log")" \
    "$number" "$((SECONDS - start))" "$log"
  rm -r "$parts"
  return $((status || number == 0))
}

ops() { tests ops "${GPU_UNIT:-suite}" "$bin/test_cuda" "${1:-*}"; }
parity() { tests parity test "$bin/test_parity" "${1:-*Cuda*}"; }

# cuDNN's, cuBLAS's and nvJPEG's kernels are not ours to check, and take minutes: memcheck leaves out suites that run
# them. racecheck is about shared memory, and is for the suites of kernels that have some.
checked() {
  local tool=$1 filter=$2 GPU_SECONDS=${GPU_SECONDS:-150}
  tests "$tool" test "$bin/test_cuda" "$filter" compute-sanitizer --require-cuda-init no --error-exitcode 9 --print-limit 20 --tool "$tool"
}
memcheck() { checked memcheck "${1:-*-CudaConv.*:CudaConvTranspose.*:CudaLinear.*:*CudaExecutor*:*Jpeg.*:Tuner.*:CudaSchedule.*}"; }
racecheck() {
  local races='CudaAttention.*:CudaConv.Depthwise*:CudaConv.LongSumsOfSmallMaps:CudaConvGroup.*:CudaConversions.*'
  races+=':CudaDecodeKeypoints.*:CudaDetectAnchors.*:CudaDetectQueries.*:CudaElementwise.GlobalAveragePool'
  races+=':CudaElementwise.SqueezeExcite:CudaGatedWeights.*:CudaGroupNorm.*:CudaMaskBoxes.*:CudaMaskLogits.*'
  races+=':CudaNms.*:CudaNormalizeImage.*:CudaPasteMasks.*:CudaQuantizedConv.*:CudaQuantizedConvGroup.*'
  races+=':CudaQuantizedDepthwise.*:CudaQuantizedLinear.*:CudaRescaleBoxes.*:CudaResizeImage.*:CudaResizeMasks.*'
  races+=':CudaRoiAlign.*:CudaSelectAnchors.*:CudaSelectBoxes.*:CudaSelectedScores.*:CudaSelectQueries.*'
  races+=':CudaSeparableConv.*:CudaSeparableStep.*:CudaSqueezedConv.*:CudaStemConv.*'
  OSPREY_SHORT_CASES=1 checked racecheck "${1:-$races}"
}
sanitize() {
  local status=0
  memcheck "$@" || status=1
  racecheck "$@" || status=1
  return $status
}

bench() {
  conditions "bench $*" > "$out/conditions.txt"
  python3 bench/gpu.py --osprey "$bin/osprey" --conditions "$out/conditions.txt" --out "$out" --record "$@"
}

# Of TensorFlow: 0.2990 (fixtures/tfod/real_*/tf_metrics.json).
average() {
  local fixtures=${OSPREY_FIXTURES:-../shared/fixtures} work precision status=0
  local photos=$fixtures/coco/val64 model=$fixtures/tfod/real_ssd_mobilenet_v2_fpnlite_320
  work=$(mktemp -d)
  tar -xJf "$model/checkpoint.tar.xz" -C "$work"
  for precision in fp32 fp16; do
    ours "$bin/osprey" build "$work/checkpoint" --device cuda --precision "$precision" --tuning-budget 0 --quiet -o "$work/m.osprey" &&
      ours "$bin/osprey" eval "$work/m.osprey" --images "$photos/images" --annotations "$photos/instances.json" \
        --tuning-budget 0 --json --quiet > "$work/average.json" &&
      python3 -c 'import json, sys; print("average, " + sys.argv[2] + ":", json.load(open(sys.argv[1]))["bbox"]["stats"])' \
        "$work/average.json" "$precision" || { echo "average, $precision: FAILED"; status=1; }
  done
  rm -rf "$work"
  return $status
}

# What brief measures, the most telling first.
readonly brief_cases="ssd_fpnlite_320 effdet_d0 ssd_r50_640 faster_r50_640 effdet_d4 mask_inception_1024 mask_rtdetr_l rtdetr_l
  mask_rtdetr_l_b16 effdet_d0_b32 effdet_d7x
  retinanet_fp16 mask_dynamic_fp16 mask_1344_fp16 mask_1344_tf32"

# step SECONDS NAME [ARGUMENTS]: one of the above with at most so long; says how long it took. Nothing is begun after `until`.
step() {
  local most=$1 start=$SECONDS; shift
  ((SECONDS < until)) || { echo "-- $1: out of time"; return; }
  timeout -k 5 "$most" "$PWD/scripts/gpu.sh" "$@"
  echo "-- $1: status $?, $((SECONDS - start)) s, at $SECONDS s"
}

engines() { OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive python3 bench/gpu.py --osprey "$bin/osprey" --engines --cases "$@"; }

brief() {
  local until=${1:-420} cases engines
  read -ra cases <<< "${BRIEF_CASES:-${brief_cases//$'\n'/ }}"
  export GPU_JOBS=${GPU_JOBS:-12} GPU_SECONDS=${GPU_SECONDS:-60}
  engines "${cases[@]}" > "$out/engines.log" 2>&1 &  # on the CPU, beside the tests
  engines=$!
  export GPU_UNIT=test OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive
  [[ ${BRIEF_OPS:-} == none ]] || GPU_TOTAL=45 step 110 ops ${BRIEF_OPS:+"$BRIEF_OPS"}
  [[ ${BRIEF_PARITY:-} == none ]] || GPU_TOTAL=70 step 140 parity ${BRIEF_PARITY:+"$BRIEF_PARITY"}
  unset OMP_NUM_THREADS OMP_WAIT_POLICY
  [[ ${BRIEF_AVERAGE:-} == none ]] || step 45 average
  wait "$engines"
  cat "$out/engines.log"
  step $((until - SECONDS + 60)) bench --brief --no-peers --iterations 200 --tuning-budget "${BRIEF_TUNING:-12}" --limit 45 \
    --until $((until - SECONDS)) --cases "${cases[@]}"
  # What was tuned, for the next run on such a machine (scripts/gpu_bundle.sh --tuning).
  python3 -c 'import shutil, sys; shutil.make_archive(sys.argv[1], "gztar", sys.argv[2], "cache")' \
    "$out/tuning" "${OSPREY_BENCH_WORK:-/tmp/osprey-bench}"
}

status=0
case ${1:-} in
  ops | parity | sanitize | memcheck | racecheck | bench | average | brief) "$@" || status=1 ;;
  all) for step in ops parity sanitize bench; do "$step" || status=1; done ;;
  *) sed -n '2,15s/^# *//p' "$0" >&2; exit 2 ;;
esac
exit $status
