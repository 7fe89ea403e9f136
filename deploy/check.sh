#!/usr/bin/env bash
# Owns the test of everything in deploy/, one tool after the other. `make deploy-check` gets the tools first.
#   check.sh [BINARY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=${1:-target/debug/tamis}

step() {
    echo "deploy/check.sh: $*"
    "$@" || {
        echo "deploy/check.sh: FAILED: $*" >&2
        exit 1
    }
}
quiet() { "$@" >/dev/null; }

step quiet var/deploy/bin/promtool check rules deploy/prometheus/alerts.yml
step quiet var/deploy/bin/promtool check config deploy/prometheus/scrape.yml
step quiet var/deploy/bin/promtool test rules deploy/prometheus/alerts_test.yml
step deploy/kubernetes/check.sh
step var/venv/bin/python deploy/grafana/check.py "$binary"
if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null; then
    step deploy/docker/try-in-chroot.sh "$binary"
else
    echo '*** NOT TRIED: the image, which takes root and debootstrap' >&2
fi
step deploy/systemd/check.sh "$binary"
echo "deploy/check.sh: everything that could be tried is good"
