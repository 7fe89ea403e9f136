#!/usr/bin/env bash
# Owns the setting of `make model-card`: a Python environment of its own in var/venv-card, unless PYTHON names one; then card.py.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
release=${1:?the folder of the release build}
python=${PYTHON:-}
if [ -z "$python" ]; then
    [ -x var/venv-card/bin/python ] || python3 -m venv var/venv-card
    python=var/venv-card/bin/python
    cmp -s tools/card/requirements.txt var/venv-card/.installed || {
        "$python" -m pip install -q -r tools/card/requirements.txt
        cp tools/card/requirements.txt var/venv-card/.installed
    }
fi
arguments=(--tamis "$release/tamis" --model "${MODEL:-models/tamis-en}")
[ -z "${EVAL:-}" ] || arguments=("$EVAL" "${arguments[@]}")
[ -z "${CHECK:-}" ] || arguments+=(--check)
[ -z "${FRESH:-}" ] || arguments+=(--fresh)
[ -z "${QUICK:-}" ] || arguments+=(--quick --out var/card/quick)
exec nice -n 10 "$python" tools/card/card.py "${arguments[@]}"
