#!/usr/bin/env bash
# Runs scripts/gpu.sh on the programs of a bundle (scripts/gpu_bundle.sh), with the libraries it came with and this
# machine's own of NVIDIA.
#   run.sh ops|parity|sanitize|memcheck|racecheck|bench|average|brief|all [ARGUMENTS]    as in scripts/gpu.sh
#   run.sh exec COMMAND...                              any program of the bundle, or of this machine
#   run.sh check                                        what was found, and what is missing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Folders with NVIDIA's libraries: those of Python's packages first, which PyTorch uses too.
nvidia=$(python3 - <<'PYTHON' 2>/dev/null || true
import glob, importlib.util, os
found = []
for root in (importlib.util.find_spec("nvidia").submodule_search_locations if importlib.util.find_spec("nvidia") else ()):
    for pattern in ("cudnn/lib", "cu13/lib", "cublas/lib", "cuda_nvrtc/lib", "nvjpeg/lib", "*/lib"):
        for folder in sorted(glob.glob(os.path.join(root, pattern))):
            if folder not in found and glob.glob(folder + "/lib*.so*"):
                found.append(folder)
print(":".join(found))
PYTHON
)
export OSPREY_GPU_LIBRARIES="$here/lib:${nvidia:+$nvidia:}/usr/local/cuda/lib64"
export OSPREY_GPU_BIN="$here/bin" OSPREY_FIXTURES="${OSPREY_FIXTURES:-$here/fixtures}"
if [[ -d $here/assets ]]; then export OSPREY_SOURCE="$here"; else export OSPREY_SOURCE="$PWD"; fi
OSPREY_COMMIT=$(cat "$here/commit"); export OSPREY_COMMIT
# The system's programs that ours start (tar, for fixtures) must not see our libraries.
mkdir -p "$here/tools"
printf '#!/bin/sh\nunset LD_LIBRARY_PATH\nexec %s "$@"\n' "$(command -v tar)" > "$here/tools/tar"
# tar needs xz, which not every machine has.
command -v xz > /dev/null || cat > "$here/tools/xz" <<'PYTHON'
#!/usr/bin/env python3
import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer)
PYTHON
chmod +x "$here"/tools/*
export PATH="$here/tools:$here/bin:$PATH"
# What an earlier run tuned, where bench/gpu.py looks for it.
work=${OSPREY_BENCH_WORK:-/tmp/osprey-bench}
if [[ -f $here/tuning.tar.gz && ! -d $work/cache ]]; then python3 -m tarfile -e "$here/tuning.tar.gz" "$work"; fi

case ${1:-} in
  exec) shift; export LD_LIBRARY_PATH="$OSPREY_GPU_LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; exec "$@" ;;
  check)
    echo "libraries: $OSPREY_GPU_LIBRARIES"
    for program in "$here"/bin/*; do
      echo "$program:"
      LD_LIBRARY_PATH=$OSPREY_GPU_LIBRARIES ldd "$program" | grep -E 'not found|libcu|libnv' || echo "  all found"
    done ;;
  *) exec "$here/scripts/gpu.sh" "$@" ;;
esac
