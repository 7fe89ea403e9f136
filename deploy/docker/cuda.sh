#!/usr/bin/env bash
# Owns what a CUDA image has that a CPU image has not: ONNX Runtime with its CUDA provider, and CUDA's and cuDNN's libraries, all out of
# PyPI wheels, in one flat folder. `cuda.sh FOLDER`; needs Python 3.11 with venv. The driver (libcuda.so.1) comes from the machine.
set -euo pipefail
version=1.31.1
out=${1:?usage: cuda.sh FOLDER}
python=${PYTHON:-python3}
mkdir -p "$out"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
"$python" -m venv "$new/venv"
# The wheel names the CUDA and cuDNN that it was built for; pip finds them.
"$new/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --target "$new/wheels" \
    "onnxruntime-gpu[cuda,cudnn]==$version"
install -m 755 "$new/wheels/onnxruntime/capi/libonnxruntime.so.$version" "$out/libonnxruntime.so"
install -m 755 "$new"/wheels/onnxruntime/capi/libonnxruntime_providers_{cuda,shared}.so "$out/"
find "$new/wheels/nvidia" -name 'lib*.so*' -type f -exec install -m 755 -t "$out" {} +
cp "$new/wheels/onnxruntime/LICENSE" "$out/LICENSE.onnxruntime" 2>/dev/null || true

# Everything that the provider links must be in the folder, but for the driver.
missing=$(LD_LIBRARY_PATH=$out ldd "$out/libonnxruntime_providers_cuda.so" | grep 'not found' | grep -v 'libcuda\.so' || true)
if [ -n "$missing" ]; then
    echo "cuda.sh: libraries are missing:" "$missing" >&2
    exit 69
fi
du -sh "$out" | sed 's/^/cuda.sh: /' >&2
