#!/usr/bin/env bash
# Owns var/bench-flow: Kafka Streams' jars beside the broker's own (same version), verified by sha256, and Copy.java compiled against them.
# The last line on stdout is the command that runs it, up to its arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tools/setup/find.sh
. tools/setup/find.sh
lib=var/bench-flow/lib classes=var/bench-flow/classes
jars=(org.apache.kafka:kafka-streams:4.3.1 org.rocksdb:rocksdbjni:10.1.3)

tools/kafka/broker.sh fetch
find_java
if ! (cd $lib 2>/dev/null && sha256sum --check --quiet --strict ../../../tools/bench/flow/jars.sha256) >/dev/null 2>&1; then
    echo "jars.sh: getting Kafka Streams' jars with Maven (75 MB, once)" >&2
    rm -rf $lib
    mkdir -p $lib
    for jar in "${jars[@]}"; do
        mvn -q -B dependency:copy -Dartifact="$jar" -DoutputDirectory="$PWD/$lib" >var/bench-flow/maven.log 2>&1 || {
            echo "jars.sh: Maven could not get $jar:" >&2
            cat var/bench-flow/maven.log >&2
            exit 69
        }
    done
    (cd $lib && sha256sum --check --quiet --strict ../../../tools/bench/flow/jars.sha256) >&2 || {
        echo "jars.sh: a jar in $lib is not the one pinned in tools/bench/flow/jars.sha256" >&2
        exit 69
    }
fi
if [ tools/bench/flow/Copy.java -nt $classes/Copy.class ]; then
    mkdir -p $classes
    "$(dirname "$(readlink -f "$java")")/javac" -cp "$lib/*:var/kafka/lib/*" -d $classes tools/bench/flow/Copy.java >&2 || {
        echo "jars.sh: no javac beside $java, or it refused Copy.java: install a JDK" >&2
        exit 69
    }
fi
echo "$java -Xmx512m -Dlog4j2.configurationFile=$PWD/tools/kafka/log4j2.properties -cp $PWD/$classes:$PWD/$lib/*:$PWD/var/kafka/lib/* Copy"
