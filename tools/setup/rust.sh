#!/usr/bin/env bash
# Owns the Rust toolchain: the one rust-toolchain.toml names where rustup rules, else any cargo new enough. It installs
# rustup where there is no cargo, and touches nothing where the toolchain is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
minimum=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)

give_up() {
    echo "rust.sh: $1" >&2
    echo "rust.sh: tamis needs Rust $minimum or newer, best $channel, from https://rustup.rs: then run this again" >&2
    exit 69
}

# Debian's rustup (13, Ubuntu 24.04) where there is one, else rustup's own installer.
install_rustup() {
    local as_root=() installer
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    if command -v apt-get >/dev/null && command -v "${as_root[0]:-true}" >/dev/null &&
        [ -n "$(apt-cache -qq show rustup 2>/dev/null)" ] &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install rustup >&2; then return; fi
    installer=$(mktemp)
    if curl -fsSL --proto '=https' --connect-timeout 20 -o "$installer" https://sh.rustup.rs &&
        sh "$installer" -y -q --profile minimal --default-toolchain none >&2; then
        rm -f "$installer"
        return
    fi
    rm -f "$installer"
    give_up "there is no usable cargo, and rustup could not be installed (its errors are above)"
}

old_cargo() {
    local version
    # outside the repository, so that rustup doesn't fetch a toolchain merely to tell its version
    version=$(cd / && cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
    [ "$(printf '%s\n' "$minimum" "${version:-0}" | sort -V | head -n 1)" != "$minimum" ]
}

if ! command -v rustup >/dev/null; then
    if ! old_cargo; then exit 0; fi
    echo "rust.sh: no cargo of at least $minimum; installing rustup" >&2
    install_rustup
    hash -r
fi
if grep -q "^$channel-" <<<"$(rustup toolchain list)"; then exit 0; fi
echo "rust.sh: installing Rust $channel" >&2
rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy >&2 ||
    give_up "Rust $channel could not be installed (rustup's errors are above)"
