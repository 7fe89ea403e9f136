#!/usr/bin/env bash
# Owns what is instrumented for libFuzzer: our own code, and with it what of other crates is compiled into it (generics). Cargo calls it in rustc's
# place (RUSTC_WRAPPER). Other crates are compiled as everywhere, so that the builds of `make test` and `make fuzz` share them.
set -euo pipefail
rustc=$1
shift
case " $* " in
*" --crate-name tamis "* | *" --crate-name tamis_fuzz "*)
    # The flags of cargo-fuzz, all of them stable ones.
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
