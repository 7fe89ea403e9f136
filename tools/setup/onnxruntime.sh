#!/usr/bin/env bash
# Owns var/ort: ONNX Runtime's shared library for the CPU with its licences, out of its PyPI wheel, verified by sha256.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=1.32.0
machine=$(uname -m)
case $machine in
x86_64) sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d ;;
aarch64) sha256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c ;;
*)
    echo "onnxruntime.sh: no ONNX Runtime wheel is pinned for $machine; build one and set TAMIS_ORT_LIB to it" >&2
    exit 69
    ;;
esac
if [ -e var/ort/libonnxruntime.so ] && [ "$(cat var/ort/wheel.sha256 2>/dev/null)" = $sha256 ]; then exit 0; fi

tools/setup/python.sh bare
echo "onnxruntime.sh: getting ONNX Runtime $version from PyPI (28 MB, once)" >&2
new=$(mktemp -d var/ort.XXXXXX)
trap 'rm -rf "$new"' EXIT
# the library in it is the same whatever Python the wheel is for
var/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.11 --implementation cp --platform "manylinux_2_28_$machine" --dest "$new" \
    "onnxruntime==$version" >&2 || {
    echo "onnxruntime.sh: pip could not get the wheel (its errors are above)" >&2
    exit 69
}
wheel=$(echo "$new"/*.whl)
if ! echo "$sha256  $wheel" | sha256sum --check --status; then
    echo "onnxruntime.sh: $(basename "$wheel") is not the wheel pinned in this script; nothing installed" >&2
    exit 69
fi
unzip -q -j "$wheel" "onnxruntime/capi/libonnxruntime.so.$version" onnxruntime/LICENSE \
    onnxruntime/ThirdPartyNotices.txt -d "$new"
mv "$new/libonnxruntime.so.$version" "$new/libonnxruntime.so"
rm "$wheel"
echo $sha256 >"$new/wheel.sha256"
chmod 755 "$new"
rm -rf var/ort
mv "$new" var/ort
