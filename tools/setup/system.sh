#!/usr/bin/env bash
# Owns the Debian and Ubuntu packages: `system.sh build` what compiling and running tamis takes, `system.sh broker` what
# the tests take (a Kafka broker's, zstd to read outputs with, openssl for certificates), `system.sh chaos` what some faults take (a clock that
# jumps), `system.sh lint` the one linter that comes as a package. Installs only what is missing.
set -euo pipefail
# shellcheck source=tools/setup/find.sh
. "$(dirname "${BASH_SOURCE[0]}")/find.sh"

if ! command -v dpkg-query >/dev/null; then
    echo "system.sh: neither Debian nor Ubuntu: install what this script names by your system's own means" >&2
    exit 0
fi

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# The first of these that the package lists know, for what is named otherwise from release to release.
first_known() {
    local package
    for package; do
        if [ -n "$(apt-cache show "$package" 2>/dev/null)" ]; then
            echo "$package"
            return
        fi
    done
    echo "$package"
}

# Adds to $missing what Python and Java are called here, as far as the package lists tell.
name_rest() {
    if [ $need_python = 1 ]; then
        # Ubuntu 22.04's python3 is 3.10; it has 3.11 beside it
        case $(apt-cache show python3 2>/dev/null | sed -n 's/^Version: 3\.\([0-9]*\).*/\1/p' | head -n 1) in
        ? | 10) missing+=(python3.11 python3.11-venv) ;;
        *) missing+=(python3 python3-venv) ;;
        esac
    fi
    if [ $need_java = 1 ]; then
        missing+=("$(first_known openjdk-21-jre-headless openjdk-17-jre-headless default-jre-headless)")
    fi
}

case ${1-} in
build)
    wanted=(cmake g++ make pkg-config libssl-dev libsasl2-dev zlib1g-dev libzstd-dev liblz4-dev libcurl4-openssl-dev
        unzip curl ca-certificates)
    ;;
broker) wanted=(util-linux zstd openssl) ;;
chaos) wanted=(libfaketime) ;;
lint) wanted=(shellcheck) ;;
*)
    echo "usage: system.sh build|broker|chaos|lint" >&2
    exit 64
    ;;
esac

missing=()
for package in "${wanted[@]}"; do
    if ! installed "$package"; then missing+=("$package"); fi
done
need_python=0 need_java=0
if [ "$1" = build ] && ! find_python; then need_python=1; fi
if [ "$1" = broker ]; then
    if ! command -v mvn >/dev/null; then missing+=(maven); fi
    if ! find_java; then need_java=1; fi
fi
if [ $((${#missing[@]} + need_python + need_java)) = 0 ]; then exit 0; fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null; then
        as_root=(sudo)
    else
        name_rest
        echo "system.sh: packages are missing, and this is neither root nor has sudo. As root, run:" >&2
        echo "    apt-get update && apt-get install ${missing[*]}" >&2
        exit 69
    fi
fi
as_root+=(env DEBIAN_FRONTEND=noninteractive)

"${as_root[@]}" apt-get -qq update >&2
name_rest
echo "system.sh: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get -qq install --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >&2 || {
    echo "system.sh: could not install: ${missing[*]}" >&2
    exit 69
}
