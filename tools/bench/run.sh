#!/usr/bin/env bash
# Owns `make bench`: the models it makes (var/bench-*), the Python it runs with (PYTHON, or var/bench, made here), and the order of
# the measurements. Every figure goes to var/bench.txt as well. QUICK=1 takes a small model and short rounds: a trial of the harness.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/setup/find.sh
. tools/setup/find.sh
build=$1
wanted=tools/bench/requirements.txt

if [ -z "${PYTHON-}" ]; then
    PYTHON=var/bench/bin/python
    if ! cmp -s "$wanted" var/bench/.installed; then
        find_python || {
            echo "run.sh: no Python of at least 3.11 with its venv module: run tools/setup/system.sh build" >&2
            exit 69
        }
        "$python" -m venv --clear var/bench
        echo "run.sh: installing PyTorch and minicons into var/bench" >&2
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$wanted" >&2
        cp "$wanted" var/bench/.installed
    fi
fi

# Name, vocabulary, and sentences at a time for minicons: whole logits of several sentences at XLM-R's vocabulary take gigabytes.
models=("base 30522 1 8" "xlm 250002 1")
size=(--hidden 768 --layers 12 --heads 12 --positions 512)
rounds=(--rounds 3) seconds=(--seconds 20)
if [ -n "${QUICK-}" ]; then
    models=("quick 3000 1 8")
    size=(--hidden 64 --layers 2 --heads 4 --positions 512)
    seconds=(--seconds 1)
fi

echo "$(date -u +%F), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)" | tee var/bench.txt
{
    for model in "${models[@]}"; do
        read -r name vocab batches <<<"$model"
        "$PYTHON" tools/bench/make_model.py "var/bench-$name" --vocab "$vocab" "${size[@]}" --int8
        echo "== $name: ready rows, against ONNX Runtime alone"
        "$PYTHON" tools/bench/throughput.py "var/bench-$name" --build "$build" --threads 1 "${rounds[@]}" "${seconds[@]}"
        echo "== $name: sentences, against minicons and ONNX Runtime alone"
        # shellcheck disable=SC2086 # the batches are several words
        "$PYTHON" tools/bench/minicons_ratio.py "var/bench-$name" --build "$build" --threads 1 "${rounds[@]}" --batches $batches
    done
    echo "== int8 and the batch, the bundled model"
    "$PYTHON" tools/bench/int8.py --tamis "$build/tamis"
} | tee -a var/bench.txt
