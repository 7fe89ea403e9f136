#!/usr/bin/env bash
# Owns the check of the live page in a real browser: a broker, a worker with traffic, and Chromium looking at it.
# Usage: check.sh TAMIS [ADDRESS]: the built program; the address of a worker that runs already (then nothing is started but the browser).
# Screenshots go to var/page/shots. Needs node, npm and Debian's chromium; 69 where one is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tamis=${1:?the built program} address=${2-}

for tool in node npm chromium; do
    command -v "$tool" >/dev/null || {
        echo "check.sh: no $tool here; install Debian's packages nodejs, npm and chromium" >&2
        exit 69
    }
done
mkdir -p var/page
if ! cmp -s tools/page/package-lock.json var/page/package-lock.json || [ ! -d var/page/node_modules ]; then
    cp tools/page/package.json tools/page/package-lock.json var/page/
    npm ci --prefix var/page --ignore-scripts --no-audit --no-fund >&2
fi
cp tools/page/check.mjs tools/page/look.mjs var/page/

work=$(mktemp -d)
pids=()
clean_up() {
    local status=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -d "$work/broker" ]; then tools/kafka/broker.sh down --dir "$work/broker" >&2 || true; fi
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ -z "$address" ]; then
    bootstrap=$(tools/kafka/broker.sh up --dir "$work/broker" --watch-pid $$ | tail -1)
    for topic in raw pass review fail dead; do
        tools/kafka/broker.sh topic --dir "$work/broker" "corpus.$topic" 4 >&2
    done
    "$tamis" run tools/page/pipeline.toml --set "source.kafka.brokers=$bootstrap" --set "cache.path=$work/cache" \
        ${PAGE_SHOW_TEXT:+--set admin.show_text=true} 2>"$work/log" &
    pids+=($!)
    for _ in $(seq 600); do
        address=$(sed -n 's|.*endpoints at http://\([0-9.:]*\).*|\1|p' "$work/log" | head -1)
        if [ -n "$address" ]; then break; fi
        sleep 0.1
    done
    [ -n "$address" ] || {
        cat "$work/log" >&2
        exit 69
    }
    var/venv/bin/python tools/page/feed.py "$bootstrap" corpus.raw "${PAGE_RATE:-14}" &
    pids+=($!)
fi
PAGE_PROFILE=$work/profile node var/page/check.mjs "http://$address/" var/page/shots "${PAGE_WARM_SECONDS:-20}"
