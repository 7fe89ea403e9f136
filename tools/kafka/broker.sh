#!/usr/bin/env bash
# Owns a real Apache Kafka broker for tests and people: one KRaft node on free loopback ports, everything it keeps in one
# folder, stopped by its own pid and no other. `broker.sh help` lists the commands.
set -euo pipefail

usage() {
    cat <<'END'
broker.sh fetch                               get the server's jars into var/kafka/lib and verify them
broker.sh up [--dir DIR] [--port N] [--watch-pid PID] [--listener NAME:PROTOCOL]… [KEY=VALUE…]
                                              start a broker; the last line on stdout is its bootstrap address.
                                              A DIR whose broker was stopped is started again with its data and ports.
                                              --watch-pid: take the broker down when that process is gone.
                                              --listener: one more listener on a free port, SECURE:SASL_PLAINTEXT for
                                              example; its address is in DIR/bootstrap.NAME. Mechanisms, keys and the
                                              authorizer are settings.
                                              KEY=VALUE: settings beside those in server.properties
broker.sh down [--dir DIR]                    stop it and delete what it kept
broker.sh stop [--dir DIR] [--kill]           stop it (--kill: at once, as a crash would) and keep its data
broker.sh status [--dir DIR]                  is it running, where; exit status 1 if it isn't
broker.sh topic [--dir DIR] NAME PARTITIONS [KEY=VALUE…]
                                              create a topic, with these settings, unless it is there
broker.sh consume [--dir DIR] TOPIC… [-- OPTION…]
                                              print the committed records, with their headers, until Ctrl-C;
                                              OPTIONs go to Kafka's console consumer (--max-messages 3, …)
DIR is var/kafka/run if not given. It holds `pid`, `bootstrap`, `server.log`, `server.properties` and `data/`.
Exit status: 64 wrong usage, 69 something needed is not to be had.
END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
lib=$root/var/kafka/lib
archive=$root/var/kafka/classes.jsa
# shellcheck source=tools/setup/find.sh
. "$root/tools/setup/find.sh"

die() {
    echo "broker.sh: $2" >&2
    exit "$1"
}

# The server's jars, just those that jars.sha256 names, and an archive of the classes it loads: a third less to start.
fetch() {
    if cmp -s "$here/jars.sha256" "$lib/.verified"; then return; fi
    need_java
    command -v mvn >/dev/null || die 69 "Kafka's jars are missing and so is Maven: run tools/setup/system.sh broker"
    mkdir -p "$root/var/kafka"
    (
        flock 9
        if cmp -s "$here/jars.sha256" "$lib/.verified"; then exit 0; fi
        echo "broker.sh: getting Apache Kafka's jars with Maven (45 MB, once)" >&2
        rm -rf "$lib" "$lib.new"
        mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$lib.new" >"$lib.log" 2>&1 || die 69 "Maven could not get the jars:"$'\n'"$(cat "$lib.log")"
        (cd "$lib.new" && sha256sum --check --quiet --strict "$here/jars.sha256") >&2 ||
            die 69 "a jar in $lib.new is not the one pinned in tools/kafka/jars.sha256"
        [ "$(find "$lib.new" -name '*.jar' | wc -l)" = "$(wc -l <"$here/jars.sha256")" ] ||
            die 69 "$lib.new holds jars that tools/kafka/jars.sha256 does not name"
        rm -f "$archive" "$lib.log"
        mv "$lib.new" "$lib"
        "$here/broker.sh" archive --dir "$(mktemp -d)" 9>&- ||
            echo "broker.sh: no archive of classes; brokers start a second later" >&2
        cp "$here/jars.sha256" "$lib/.verified"
    ) 9>"$root/var/kafka/.lock"
}

need_java() { find_java || die 69 "no Java 17 or newer: run tools/setup/system.sh broker"; }

jvm_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xlog:disable -Xlog:all=error:stderr
    "-Dlog4j2.configurationFile=$here/log4j2.properties")
class_archive=("-XX:SharedArchiveFile=$archive" -Xshare:auto)

# Runs one of Kafka's own tools.
tool() { "$java" -Xmx256m "${jvm_options[@]}" "-XX:SharedArchiveFile=$archive" -Xshare:auto -cp "$lib/*" "$@"; }

# Runs a command in a session of its own that holds nothing of ours open, so that no caller's pipe waits for it.
detached() { # LOG COMMAND…
    local log=$1 fd
    shift
    cd /
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    exec setsid "$@" </dev/null >>"$log" 2>&1
}

# Is this process the broker of $dir? (A dead one's pid may be another's by now.)
is_broker() { [ -n "$1" ] && grep -qzxF -- "$dir/server.properties" "/proc/$1/cmdline" 2>/dev/null; }
running() {
    pid=$(cat "$dir/pid" 2>/dev/null || true)
    is_broker "$pid"
}

# The moment a process began, in ticks; nothing for one that is gone or only waits to be reaped.
born() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    read -ra stat <<<"${stat##*) }"
    if [ "${stat[0]}" != Z ]; then echo "${stat[19]}"; fi
}

# What went wrong, as far as the log tells.
why() { grep -m 8 -E ' (ERROR|FATAL) |Exception|^Error' "$dir/server.log" || tail -n 20 "$dir/server.log"; }

taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A free port below those the kernel hands out to clients: nobody's outgoing connection can take it meanwhile.
pick_port() {
    local low
    read -r low _ </proc/sys/net/ipv4/ip_local_port_range
    if [ "$low" -lt 15000 ]; then low=65000; fi
    for _ in {1..100}; do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % (low - 10000)))
        if ! taken "$port"; then return; fi
    done
    die 69 "found no free port"
}

# Does it list itself as the cluster's one live broker? (A Metadata request, version 1, without topics.)
answers() {
    local reply
    reply=$(
        exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 0
        printf '\0\0\0\16\0\3\0\1\0\0\0\7\377\377\0\0\0\0' >&3
        timeout 2 head -c 12 <&3 | od -An -tx1 | tr -d ' \n'
    ) || true
    [ "${reply:8}" = 0000000700000001 ]
}

configure() { # BROKER_PORT CONTROLLER_PORT SETTINGS…
    local bootstrap=127.0.0.1:$1 controller=127.0.0.1:$2 used=" $1 $2 " port name listener listeners='' map=''
    shift 2
    for listener in "${more_listeners[@]}"; do
        name=${listener%%:*}
        until pick_port && [[ $used != *" $port "* ]]; do :; done
        used+="$port "
        listeners+=",$name://127.0.0.1:$port"
        map+=",$name:${listener#*:}"
        echo "127.0.0.1:$port" >"$dir/bootstrap.$name"
    done
    {
        cat "$here/server.properties"
        echo
        echo "# from broker.sh"
        echo "listeners=PLAINTEXT://$bootstrap,CONTROLLER://$controller$listeners"
        echo "advertised.listeners=PLAINTEXT://$bootstrap$listeners"
        echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$map"
        echo "controller.quorum.voters=1@$controller"
        echo "log.dirs=$dir/data"
        if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi
    } >"$dir/server.properties"
    echo "$bootstrap" >"$dir/bootstrap"
}

# Starts the broker as configured; 0 when it answers, 1 when it ended before that.
launch() {
    local port
    port=$(sed 's/.*://' "$dir/bootstrap")
    detached "$dir/server.log" "$java" -Xmx512m "${jvm_options[@]}" "${class_archive[@]}" -Dkafka.log.level=INFO \
        -XX:ErrorFile="$dir/hs_err.log" -cp "$lib/*" kafka.Kafka "$dir/server.properties" &
    starting=$!
    echo "$starting" >"$dir/pid"
    if [ -n "$watched" ]; then
        detached /dev/null "$here/broker.sh" watch --dir "$dir" "$starting" "$watched" "$watched_born" &
    fi
    for _ in {1..1200}; do
        if ! kill -0 "$starting" 2>/dev/null; then return 1; fi
        if answers "$port"; then return 0; fi
        sleep 0.1
    done
    die 69 "the broker did not answer in two minutes; from $dir/server.log:"$'\n'"$(why)"
}

up() {
    mkdir -p "$dir"
    exec 8>"$dir/lock"
    flock 8
    if running; then
        cat "$dir/bootstrap"
        return
    fi
    need_java
    fetch
    format_and_launch "$@"
}

format_and_launch() { # SETTINGS…
    local port=$fixed_port broker_port attempt
    # whatever ends us early ends the half-started broker too
    starting=
    trap 'if [ -n "$starting" ]; then kill -KILL "$starting" 2>/dev/null || true; rm -f "$dir/pid"; fi' EXIT
    trap 'exit 130' INT TERM HUP
    for attempt in 1 2 3 4 5; do
        if [ ! -e "$dir/data/meta.properties" ]; then
            if [ -z "$fixed_port" ]; then
                pick_port
            elif taken "$port"; then
                die 69 "port $port is taken; choose another or leave --port out"
            fi
            broker_port=$port
            until [ "$port" != "$broker_port" ]; do pick_port; done
            configure "$broker_port" "$port" "$@"
            tool kafka.tools.StorageTool format -t "$(head -c 16 /dev/urandom | base64 | tr '+/' AB | tr -d =)" \
                -c "$dir/server.properties" >"$dir/server.log" 2>&1 ||
                die 69 "the storage could not be formatted:"$'\n'"$(why)"
        fi
        if launch; then
            starting=
            : >"$dir/kept" # from here on the data is someone's
            cat "$dir/bootstrap"
            return
        fi
        starting=
        # someone took the port between our look and the broker's: begin anew, but never where there is data
        if [ -n "$fixed_port" ] || [ "$attempt" = 5 ] || [ -e "$dir/kept" ] ||
            ! grep -q 'BindException\|Address already in use' "$dir/server.log"; then break; fi
        rm -rf "$dir/data"
    done
    rm -f "$dir/pid"
    die 69 "the broker ended while starting; from $dir/server.log:"$'\n'"$(why)"
}

halt() { # SIGNAL PID
    if ! is_broker "$2"; then return; fi
    kill "-$1" "$2" 2>/dev/null || true
    for _ in {1..200}; do
        if ! is_broker "$2"; then return; fi
        sleep 0.1
    done
    kill -KILL "$2" 2>/dev/null || true
    while is_broker "$2"; do sleep 0.1; done
}

stop() {
    local signal=TERM
    if [ "${1-}" = --kill ]; then signal=KILL; fi
    if running; then halt $signal "$pid"; fi
    rm -f "$dir/pid"
}

down() {
    if running; then halt TERM "$pid"; fi
    rm -rf "$dir"/{data,pid,bootstrap,kept,lock,server.log,server.properties,hs_err.log} "$dir"/bootstrap.*
    rmdir --ignore-fail-on-non-empty "$dir" 2>/dev/null || true
}

# One start and stop for the archive's sake.
archive() {
    need_java
    class_archive=("-XX:ArchiveClassesAtExit=$archive")
    format_and_launch >/dev/null
    down
    [ -s "$archive" ]
}

# The watcher that --watch-pid starts: it ends with the broker.
watch() { # BROKER_PID WATCHED_PID ITS_BIRTH
    local broker=$1
    for _ in {1..50}; do # until setsid and Java have replaced our own name
        if is_broker "$broker"; then break; fi
        sleep 0.1
    done
    while is_broker "$broker"; do
        if [ "$(born "$2")" != "$3" ]; then
            halt TERM "$broker" # by its number: the harness may have deleted the folder
            down
            return
        fi
        sleep 1
    done
}

topic() {
    [ $# -ge 2 ] || die 64 "topic wants a name and a number of partitions"
    local name=$1 partitions=$2 settings=() setting
    shift 2
    for setting in "$@"; do settings+=(--config "$setting"); done
    running || die 69 "no broker runs in $dir"
    need_java
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$(cat "$dir/bootstrap")" --create --if-not-exists \
        --topic "$name" --partitions "$partitions" --replication-factor 1 "${settings[@]}" >&2
}

consume() {
    local topics=() pattern
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        topics+=("${1//./\\.}")
        shift
    done
    shift || true
    [ ${#topics[@]} -gt 0 ] || die 64 "consume wants a topic"
    running || die 69 "no broker runs in $dir"
    need_java
    pattern=$(IFS='|' && echo "${topics[*]}")
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$(cat "$dir/bootstrap")" \
        --include "$pattern" --from-beginning --command-property isolation.level=read_committed \
        --formatter-property print.partition=true --formatter-property print.offset=true \
        --formatter-property print.headers=true --formatter-property print.key=true "$@"
}

command=${1-help}
shift || true
dir=$root/var/kafka/run fixed_port='' watched='' more_listeners=() rest=()
while [ $# -gt 0 ]; do
    case $1 in
    --dir | --port | --watch-pid | --listener) [ -n "${2-}" ] || die 64 "$1 wants a value" ;;&
    --dir) dir=$(realpath -m -- "$2") && shift 2 ;;
    --port) fixed_port=$2 && shift 2 ;;
    --listener)
        [[ $2 =~ ^[A-Z]+:[A-Z_]+$ ]] || die 64 "--listener wants NAME:PROTOCOL, both in capitals"
        more_listeners+=("$2")
        shift 2
        ;;
    --watch-pid)
        watched=$2
        watched_born=$(born "$watched")
        [ -n "$watched_born" ] || die 64 "--watch-pid: there is no process $watched"
        shift 2
        ;;
    --) rest+=("$@") && break ;;
    *) rest+=("$1") && shift ;;
    esac
done

case $command in
fetch | up | down | stop | archive | watch | topic | consume) "$command" "${rest[@]}" ;;
status)
    if ! running; then
        echo "no broker runs in $dir"
        exit 1
    fi
    echo "running on $(cat "$dir/bootstrap"), pid $pid, state in $dir"
    ;;
help | --help | -h) usage ;;
*)
    usage >&2
    exit 64
    ;;
esac
