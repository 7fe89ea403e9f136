#!/usr/bin/env bash
# Owns the trial of the image without Docker: the Dockerfile's runtime steps in a bare Debian root (debootstrap), then a worker's work in it
# as the image would do it: user 10001, read-only root, a writable cache and /tmp. Needs root and debootstrap.
#   try-in-chroot.sh BINARY       BINARY: a tamis built for this Debian or an older one
# Of the compile stage it tries that what is copied compiles, not the compiling there. Untried: docker itself, pushing, and a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:-target/release/tamis}
suite=bookworm mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

die() {
    echo "try-in-chroot.sh: $1" >&2
    exit 69
}
[ "$(id -u)" = 0 ] || die "needs root, for debootstrap and chroot"
command -v debootstrap >/dev/null || die "no debootstrap: install the package debootstrap"
[ -x "$binary" ] || die "$binary is not there; give the path of a built tamis"

# The compile stage has what compiling takes: what it copies, and nothing else of the repository, passes cargo check.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
sed -n '/AS build$/,/^FROM .* AS base$/s/^COPY \(.*\) [^ ]*$/\1/p' deploy/docker/Dockerfile | tr ' ' '\n' | while read -r path; do
    grep -qxF "!$path" deploy/docker/Dockerfile.dockerignore || die "Dockerfile.dockerignore keeps $path away from the build"
    mkdir -p "$context/$(dirname "$path")"
    cp -R "$path" "$context/$path"
done
[ -d "$context/src" ] || die "the Dockerfile's COPY lines were not found"
(cd "$context" && CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$OLDPWD/target} cargo check --quiet --locked --bin tamis) || die "what the Dockerfile copies does not compile"

# The base image, once: what debian:bookworm-slim is made by.
base=$PWD/var/deploy/debian-$suite
if [ ! -e "$base/.complete" ]; then
    echo "try-in-chroot.sh: making a bare Debian root (a minute, once)" >&2
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase $suite "$base" "$mirror" >"$base.log" 2>&1 || die "debootstrap failed: $base.log"
    touch "$base/.complete"
fi

root=$(mktemp -d)
image=$root/image
clean_up() {
    rm -rf "$context"
    umount -l "$image" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap clean_up EXIT
mkdir -p "$image" "$root/built"
cp -a "$base/." "$root/built/"

# RUN, as the Dockerfile has it: taken out of it, so that the two can't differ.
packages=$(sed -n 's/^ *&& apt-get install -y --no-install-recommends \(ca-certificates.*\) \\$/\1/p' deploy/docker/Dockerfile)
[ -n "$packages" ] || die "the Dockerfile's list of packages was not found"
cp /etc/resolv.conf "$root/built/etc/resolv.conf"
# shellcheck disable=SC2086
chroot "$root/built" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -ec "
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends $packages
    rm -rf /var/lib/apt/lists/*
    groupadd --gid 10001 tamis
    useradd --uid 10001 --gid 10001 --home-dir /var/lib/tamis --shell /usr/sbin/nologin tamis
    install -d -o 10001 -g 10001 -m 750 /var/lib/tamis
    install -d /etc/tamis" >"$root/apt.log" 2>&1 || {
    tail -n 20 "$root/apt.log" >&2
    die "the runtime packages could not be installed"
}
# COPY
install -D -m 755 "$binary" "$root/built/opt/tamis/tamis"
install -D -m 755 var/ort/libonnxruntime.so "$root/built/opt/tamis/libonnxruntime.so"
mkdir -p "$root/built/opt/tamis/models"
cp -R models/tamis-en models/tamis-en-int8 "$root/built/opt/tamis/models/"
install -m 644 pipelines/english-web.toml "$root/built/etc/tamis/pipeline.toml"

if chroot "$root/built" ldd /opt/tamis/tamis | grep 'not found'; then die "the image lacks a library"; fi

# --read-only --tmpfs /tmp -v cache:/var/lib/tamis, in namespaces of its own, as user 10001 without capabilities.
cat >"$root/inside.sh" <<'END'
set -e
image=$1
mount --bind "$2" "$image"
mount -t tmpfs tmpfs "$image/tmp"
mount -t tmpfs -o uid=10001,gid=10001,mode=750 tmpfs "$image/var/lib/tamis"
mount -t proc proc "$image/proc"
mount -o remount,ro,bind "$image"
exec chroot --userspec=10001:10001 --groups= "$image" env -i HOME=/var/lib/tamis TAMIS__CACHE__PATH=/var/lib/tamis \
    TAMIS__ADMIN__LISTEN=0.0.0.0:9600 sh -c '
    cd /opt/tamis
    if touch /opt/tamis/x 2>/dev/null || touch /etc/x 2>/dev/null; then echo "the root can be written" >&2; exit 70; fi
    [ "$(id -u)" = 10001 ] || exit 70
    exec /opt/tamis/tamis score /etc/tamis/pipeline.toml --input - --summary'
END
sample='{"id":"good","text":"The committee met on Tuesday and agreed on the budget for the new school in the north of the town."}
{"id":"bad","text":"zq xv bnm qqp wrt lkj ppf ddw zzk mmn"}'
echo "$sample" | unshare --mount --pid --fork --ipc --uts bash "$root/inside.sh" "$image" "$root/built" >"$root/out.jsonl" 2>"$root/err.log" || {
    cat "$root/err.log" >&2
    die "tamis did not work in the image"
}
if [ "$(wc -l <"$root/out.jsonl")" != 2 ] || ! grep -q '"id":"good","verdict":"pass"' "$root/out.jsonl" ||
    ! grep -q '"id":"bad","verdict":"fail"' "$root/out.jsonl"; then
    cat "$root/out.jsonl" "$root/err.log" >&2
    die "not the verdicts that were expected"
fi
echo "image: the runtime stage works in a bare Debian, as user 10001 on a read-only root ($(du -sm "$root/built" | cut -f1) MB)"
