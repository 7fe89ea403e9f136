#!/usr/bin/env bash
# Owns one run of one fuzz target (`make fuzz TARGET=decode SECONDS=600`): builds it with coverage, gives it its seeds and whatever earlier runs found worth
# keeping (var/fuzz/TARGET/corpus), lets libFuzzer work, and appends a line to docs/fuzzing.csv (RECORD=0: not). Needs a C++ compiler beside Rust as it is
# pinned: no nightly, no cargo-fuzz. A finding leaves its input in var/fuzz/TARGET/, and ends with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$1
seconds=$2
entry=fuzz/targets/$target.rs
if [ ! -e "$entry" ]; then
    echo "fuzz/run.sh: there is no target \"$target\"; there are: $(basename -s .rs fuzz/targets/*.rs | xargs)" >&2
    exit 64
fi
built=${CARGO_TARGET_DIR:-target}
RUSTC_WRAPPER=$PWD/fuzz/rustc.sh cargo build --locked --manifest-path fuzz/Cargo.toml --target-dir "$built" --bin "fuzz_$target"

folder=var/fuzz/$target
mkdir -p "$folder/corpus" "$folder/seeds"
case $target in
graph) longest=131072 limit=2048 ;;
streams) longest=4096 limit=1024 ;;
settings) longest=16384 limit=1024 ;;
*) longest=4096 limit=1024 ;;
esac
log=$folder/log
status=0
began=$SECONDS
# Processor time is what a busy machine gave it, and not the clock's.
TIMEFORMAT='%U %S'
{ time TAMIS_FUZZ_SEEDS=$folder/seeds nice -n 15 "$built/debug/fuzz_$target" "$folder/corpus" "$folder/seeds" -max_total_time="$seconds" \
    -timeout=30 -rss_limit_mb=$limit -max_len=$longest -print_final_stats=1 -artifact_prefix="$folder/" >"$log" 2>&1 || status=1; } 2>"$folder/time"
cpu=$(awk '{ printf "%.0f", $1 + $2 }' "$folder/time")
[ $status = 0 ] || tail -n 40 "$log" >&2

stat() { sed -n "s/^stat::$1: *//p" "$log"; }
covered=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1 | awk '{ print $2 "," $4 }')
edges=$(sed -n 's/.*Loaded 1 PC tables (\([0-9]*\) PCs).*/\1/p' "$log")
kept=$(find "$folder/corpus" -type f | wc -l)
line="$(date -u +%F),$(git rev-parse --short HEAD),$target,$((SECONDS - began)),$cpu,$(stat number_of_executed_units),${covered:-,},$edges,$kept,$(stat peak_rss_mb),$status"
echo "$line"
if [ "${RECORD:-1}" != 0 ]; then
    table=docs/fuzzing.csv
    [ -e $table ] || echo "date,commit,target,seconds,cpu_seconds,executions,edges,features,edges_in_all,corpus,peak_mib,findings" >$table
    echo "$line" >>$table
fi
exit $status
