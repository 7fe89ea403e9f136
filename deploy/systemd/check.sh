#!/usr/bin/env bash
# Owns the unit's test: systemd-analyze verify, and its exposure below a threshold; then, with root and systemd-nspawn, a real systemd in a
# container, a real broker, and an operator's day: install, start, drain, a stall that the watchdog ends, settings that are wrong.
#   check.sh BINARY [--no-boot]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:?usage: check.sh BINARY [--no-boot]}
unit=tamis@english-web
out=$(mktemp -d)
broker=$out/broker root=$out/root
nspawn=

fail() {
    echo "systemd/check.sh: $1" >&2
    exit 1
}
skip() {
    echo "*** NOT TRIED: the unit under a running systemd, $1" >&2
    exit 0
}
clean_up() {
    if [ -n "$nspawn" ]; then kill -TERM "$nspawn" 2>/dev/null || true; fi
    if [ -n "$nspawn" ]; then wait "$nspawn" 2>/dev/null || true; fi
    if [ -e "$broker/pid" ]; then
        kill -CONT "$(cat "$broker/pid")" 2>/dev/null || true
        tools/kafka/broker.sh down --dir "$broker" >&2 || true
    fi
    rm -rf --one-file-system "$out"
}
trap clean_up EXIT

# ── What systemd-analyze can tell from the file alone. ──
sed 's#/opt/tamis/tamis #/bin/true #; s/^User=.*/User=daemon/; s/^Group=.*/Group=daemon/' "deploy/systemd/tamis@.service" >"$out/$unit.service"
mkdir "$out/$unit.service.d"
cp "deploy/systemd/tamis@.service.d/"*.conf "$out/$unit.service.d/"
systemd-analyze verify "$out/$unit.service" 2>"$out/verify.log" || true
rm -r "$out/$unit.service.d"
if grep -F "$unit" "$out/verify.log" >&2; then fail "systemd-analyze verify has something to say"; fi
# Its scale goes to 100. A unit without hardening has 96; ours has 14, of which most is for being on the network.
cp "deploy/systemd/tamis@.service" "$out/$unit.service"
systemd-analyze security --offline=true --no-pager --threshold=20 "$out/$unit.service" >"$out/security.log" ||
    fail "the unit is more exposed than it was: $(tail -n 1 "$out/security.log")"
sed '/^Protect/d; /^SystemCall/d; /^Private/d; /^Restrict/d' "deploy/systemd/tamis@.service" >"$out/bare@x.service"
if systemd-analyze security --offline=true --no-pager --threshold=20 "$out/bare@x.service" >/dev/null; then fail "the threshold refuses nothing"; fi
echo "unit: $(tail -n 1 "$out/security.log" | sed 's/^→ //')"

# ── A real one. ──
[ "${2-}" != --no-boot ] || exit 0
[ "$(id -u)" = 0 ] || skip "which takes root"
command -v systemd-nspawn debootstrap >/dev/null || skip "which takes the packages systemd-container and debootstrap"
base=$PWD/var/deploy/debian-systemd
if [ ! -e "$base/.complete" ]; then
    echo "systemd/check.sh: making a Debian root with systemd (a minute, once)" >&2
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,libsasl2-2,libssl3,zlib1g bookworm "$base" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$base.log" 2>&1 || skip "because debootstrap failed: $base.log"
    touch "$base/.complete"
fi
cp -a "$base" "$root"
# As README.md beside this file says.
install -D -m 755 "$binary" "$root/opt/tamis/tamis"
install -m 755 var/ort/libonnxruntime.so "$root/opt/tamis/"
mkdir -p "$root/opt/tamis/models" "$root/etc/tamis"
cp -R models/tamis-en "$root/opt/tamis/models/"
install -m 644 "deploy/systemd/tamis@.service" "$root/etc/systemd/system/"
install -D -m 644 deploy/systemd/tamis.sysusers.conf "$root/usr/lib/sysusers.d/tamis.conf"
install -m 600 deploy/systemd/tamis.env "$root/etc/tamis/tamis.env"
address=$(tools/kafka/broker.sh up --dir "$broker" --watch-pid $$ | tail -n 1)
for topic in raw pass review fail dead; do tools/kafka/broker.sh topic --dir "$broker" corpus.$topic 4 >/dev/null 2>&1; done
sed "s/^brokers = .*/brokers = \"$address\"/" pipelines/english-web.toml >"$root/etc/tamis/english-web.toml"
# The container shares this machine's network; a port that is free here. A stall is soon one, and little is in flight.
port=$((20000 + RANDOM % 10000))
printf '%s\n' TAMIS__ADMIN__LISTEN=127.0.0.1:$port TAMIS__ADMIN__STALL_AFTER_MS=3000 TAMIS__DELIVERY__MAX_DOCUMENTS=50 >"$root/etc/tamis/english-web.env"
mkdir -p "$root/etc/systemd/system/tamis@.service.d"
printf '[Service]\nWatchdogSec=5\n' >"$root/etc/systemd/system/tamis@.service.d/watchdog.conf"

systemd-nspawn --quiet --directory "$root" --boot --register=no --keep-unit --machine="tamis$$" </dev/null >"$out/boot.log" 2>&1 &
nspawn=$!
inside() {
    local leader
    leader=$(pgrep -P "$nspawn" | head -n 1)
    [ -n "$leader" ] || return 1
    nsenter -t "$leader" -m -u -i -p -C -r -w env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
until_true() { # SECONDS WHAT COMMAND…
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$nspawn" 2>/dev/null; then
            tail -n 5 "$out/boot.log" >&2
            skip "because systemd-nspawn does not boot here"
        fi
        if [ $SECONDS -ge $end ]; then
            inside journalctl -u $unit --no-pager -o cat -n 30 >&2 || tail -n 20 "$out/boot.log" >&2
            fail "$what: not in time"
        fi
        sleep 0.5
    done
}
property() { inside systemctl show -p "$1" --value $unit; }
is() { [ "$(property "$1")" = "$2" ]; }
metric() { curl -fsS "http://127.0.0.1:$port/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print int(sum) }'; }
in_flight() { [ "$(metric tamis_documents_in_flight)" -gt 0 ]; }
delivered() { [ "$(metric tamis_documents_total)" -ge "$1" ]; }
produce() {
    var/venv/bin/python - "$address" "$1" <<'END'
import json, sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1]})
for n in range(int(sys.argv[2])):
    producer.produce("corpus.raw", key=str(n), value=json.dumps({"text": f"The committee agreed on budget number {n} for the new school."}))
    producer.poll(0)
sys.exit(producer.flush(60))
END
}

until_true 60 "systemd boots" inside systemctl is-active multi-user.target
inside systemctl start $unit || {
    inside journalctl -u $unit --no-pager -o cat -n 30 >&2
    fail "systemctl start"
}
until_true 60 "partitions" is StatusText "scoring, 4 partitions"
produce 100
until_true 120 "100 documents" delivered 100
inside sh -c "cat /proc/\$(systemctl show -p MainPID --value $unit)/status" >"$out/status"
for fact in "NoNewPrivs:	1" "Seccomp:	2" "CapBnd:	0000000000000000"; do grep -qF "$fact" "$out/status" || fail "the process lacks $fact"; done
inside systemctl stop $unit
if ! is Result success || ! is ExecMainStatus 0; then fail "a stop does not drain"; fi

inside systemctl start $unit
until_true 60 "partitions again" is StatusText "scoring, 4 partitions"
produce 2000
until_true 60 "documents in flight" in_flight
kill -STOP "$(cat "$broker/pid")"
until_true 60 "a restart by the watchdog" inside sh -c "journalctl -u $unit --no-pager | grep -q 'Watchdog timeout'"
kill -CONT "$(cat "$broker/pid")"
until_true 120 "the worker comes back" is StatusText "scoring, 4 partitions"

inside systemctl stop $unit
echo 'nonsense = 1' >>"$root/etc/tamis/english-web.toml"
inside systemctl start $unit 2>/dev/null && fail "wrong settings start"
sleep 6 # longer than RestartSec: a restart would show
if ! is ExecMainStatus 64 || ! is ActiveState failed || ! is NRestarts 0; then fail "wrong settings are not code 64, or are tried again"; fi
echo "unit: under systemd it starts when warm, drains at stop, is restarted by the watchdog when stalled, and stays down on wrong settings"
