#!/usr/bin/env bash
# Owns var/venv, the Python environment of the set-up and the tests: `python.sh bare` makes it with nothing but pip,
# `python.sh` puts requirements.txt into it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/setup/find.sh
. tools/setup/find.sh
venv=var/venv
wanted=tools/setup/requirements.txt

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    mkdir -p var
    find_python || {
        echo "python.sh: no Python of at least 3.11 with its venv module: run tools/setup/system.sh build" >&2
        exit 69
    }
    "$python" -m venv --clear "$venv"
fi
if [ "${1-}" = bare ] || cmp -s "$wanted" "$venv/.installed"; then exit 0; fi
echo "python.sh: installing $(grep -c '^[a-z]' $wanted) packages into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$wanted" >&2 || {
    echo "python.sh: pip could not install $wanted (its errors are above)" >&2
    exit 69
}
cp "$wanted" "$venv/.installed"
