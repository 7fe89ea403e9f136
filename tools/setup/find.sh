# Sourced by the other scripts: owns which Python and which Java are good enough, so that they all agree.
# shellcheck shell=bash

# Sets $python to one of at least 3.11 (ONNX Runtime's wheels) that can make virtual environments.
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
    done
    return 1
}

# Sets $java to one of at least 17 (Kafka 4's server).
find_java() {
    local version
    for java in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        [ -x "$java" ] || continue
        version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
        if [ "${version:-0}" -ge 17 ]; then return; fi
    done
    return 1
}
