#!/usr/bin/env bash
# Installs what Osprey needs to build and test on Debian 12 or Ubuntu 24.04 (root, or a user with sudo), and
# unpacks oneDNN's wheels into .deps. Safe to run again: it does only what is missing.
#   scripts/setup.sh            what a build needs
#   scripts/setup.sh --dev      and what `make format`, `make fuzz` and `make lint` need
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential cmake ninja-build ccache pkg-config python3 python3-pip unzip
  libfmt-dev libyaml-cpp-dev libcli11-dev libprotobuf-dev protobuf-compiler libonnx-dev
  libflatbuffers-dev flatbuffers-compiler libxxhash-dev libjpeg-dev libpng-dev libstb-dev zlib1g-dev
  libsimdjson-dev nlohmann-json3-dev libcairo2-dev libpango1.0-dev fonts-dejavu-core
  libgtest-dev libgmock-dev)
[[ "${1:-}" == --dev ]] && packages+=(clang clang-format clang-tidy libclang-rt-dev libomp-dev libbenchmark-dev)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  sudo=(); ((EUID == 0)) || sudo=(sudo)
  echo "setup: installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# oneDNN 3.2: Debian 12 has 2.6. The wheels are pinned by hash and used as archives; no Python runs them.
if [[ ! -f .deps/onednn/lib/cmake/dnnl/dnnl-config.cmake ]]; then
  echo "setup: fetching oneDNN"
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes -r scripts/wheels.txt -d "$work"
  for wheel in "$work"/*.whl; do unzip -q -o "$wheel" -d "$work/unpacked"; done
  mkdir -p .deps; rm -rf .deps/onednn.new; mkdir .deps/onednn.new
  cp -a "$work"/unpacked/*.data/data/. .deps/onednn.new/
  # The wheel holds the library three times; two become links.
  ln -sf libdnnl.so.3.2 .deps/onednn.new/lib/libdnnl.so.3
  ln -sf libdnnl.so.3 .deps/onednn.new/lib/libdnnl.so
  rm -rf .deps/onednn; mv .deps/onednn.new .deps/onednn
fi

# The CUDA executor's one dependency that the toolkit does not bring: cudnn-frontend, headers only.
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
if [[ -n $nvcc && ! -f .deps/cudnn_frontend/include/cudnn_frontend.h ]]; then
  echo "setup: fetching cudnn-frontend (headers), for $nvcc"
  work_cuda=$(mktemp -d); trap 'rm -rf "${work:-}" "$work_cuda"' EXIT
  python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 \
    -r scripts/wheels-cuda.txt -d "$work_cuda"
  unzip -q -o "$work_cuda"/*.whl -d "$work_cuda/unpacked"
  mkdir -p .deps/cudnn_frontend.new; cp -a "$work_cuda/unpacked/include" .deps/cudnn_frontend.new/
  rm -rf .deps/cudnn_frontend; mv .deps/cudnn_frontend.new .deps/cudnn_frontend
fi
