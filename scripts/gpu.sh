#!/usr/bin/env bash
# Builds, tests and measures on a machine with an NVIDIA GPU, in one go, and keeps the results.
#   scripts/gpu.sh all                     what follows, one after the other
#   scripts/gpu.sh ops [GTEST OPTIONS]     every CUDA kernel against the CPU's
#   scripts/gpu.sh parity [GTEST OPTIONS]  whole models against the reference frameworks' goldens, fp32 and fp16
#   scripts/gpu.sh sanitize [FILTER]       the kernels' tests under compute-sanitizer: memcheck, then racecheck
#   scripts/gpu.sh bench [OPTIONS]         bench/gpu.py: figures beside PyTorch's, on the same machine
# Logs and figures land in OSPREY_GPU_OUT (build/gpu), the report also in bench/results, dated. Programs are
# built first, unless OSPREY_GPU_BIN names a folder that has them (as in a bundle, scripts/gpu_bundle.sh).
# SANITIZE_SECONDS: at most so long for each of the two tools (900).
set -uo pipefail
cd "$(dirname "$0")/.."

out=${OSPREY_GPU_OUT:-build/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export OSPREY_REQUIRE_GPU=1  # a test that skips for want of a GPU fails
export CUDA_MODULE_LOADING=${CUDA_MODULE_LOADING:-LAZY}

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
  ours "$bin/osprey" doctor 2>/dev/null | grep -Ei 'cuda|cudnn|cublas|driver|gpu' | sed 's/^/doctor: /'
  echo "command: scripts/gpu.sh $*"
}

# Runs a test program: all of its output to a file, what failed and the verdict to the terminal.
tests() {
  local name=$1 start=$SECONDS; shift
  conditions "$name" > "$out/$name.log"
  ours "$@" >> "$out/$name.log" 2>&1
  local status=$?
  grep -E '^\[  (FAILED|PASSED|SKIPPED) |Failure|error:|ERROR SUMMARY|RACECHECK SUMMARY' "$out/$name.log" | tail -40
  printf '%s: %s, %d s; the log: %s\n' "$name" "$([[ $status == 0 ]] && echo passed || echo "FAILED ($status)")" \
    "$((SECONDS - start))" "$out/$name.log"
  return $status
}

ops() { tests ops "$bin/test_cuda" --gtest_brief=1 "$@"; }
parity() { tests parity "$bin/test_parity" --gtest_filter='*Cuda*' "$@"; }

# cuDNN's and cuBLAS's kernels are not ours to check, and racecheck takes minutes for each of them.
sanitize() {
  local filter=${1:-*} status=0 tool
  for tool in memcheck racecheck; do
    local only=(); [[ $tool == racecheck ]] && only=(--kernel-name kns=osprey)
    tests "$tool" timeout -s INT "${SANITIZE_SECONDS:-900}" compute-sanitizer --tool "$tool" --error-exitcode 9 \
      --print-limit 20 "${only[@]}" "$bin/test_cuda" --gtest_filter="$filter" || status=1
  done
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
  *) sed -n '2,12s/^# *//p' "$0" >&2; exit 2 ;;
esac
exit $status
