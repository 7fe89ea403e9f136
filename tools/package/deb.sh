#!/usr/bin/env bash
# Owns the Debian package: deb.sh RELEASE OUT packs what install.sh lays down below /usr. It needs dpkg-deb, and dpkg-shlibdeps
# (package dpkg-dev) to say which libraries the program asks for.
set -euo pipefail

release=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v "$tool" >/dev/null || {
        echo "deb.sh: $tool is not installed; on Debian: apt-get install dpkg-dev" >&2
        exit 69
    }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
tree=$work/tree
mkdir -p "$tree/DEBIAN" "$work/debian"
"$here/tools/package/install.sh" "$release" /usr "$tree" >/dev/null
# dpkg knows what it installed.
rm "$tree/usr/share/tamis/installed"
gzip -9n "$tree"/usr/share/man/man1/*.1
strip --strip-debug "$tree/usr/bin/tamis"

printf 'Source: tamis\n\nPackage: tamis\nArchitecture: any\n' >"$work/debian/control"
needs=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info -l"$tree/usr/lib/tamis" "$tree/usr/bin/tamis" \
    "$tree/usr/lib/tamis/libonnxruntime.so" 2>"$work/warnings" | sed -n 's/^shlibs:Depends=//p') || {
    cat "$work/warnings" >&2
    exit 69
}
# What is a pre-release to Cargo (1.0.0-rc.1) comes before the release, which Debian writes with a tilde.
version=$("$release/tamis" --version | cut -d' ' -f2 | tr - '~')
architecture=$(dpkg --print-architecture)
cat >"$tree/DEBIAN/control" <<END
Package: tamis
Version: $version
Architecture: $architecture
Maintainer: the tamis authors <tamis@localhost>
Installed-Size: $(du -sk --exclude DEBIAN "$tree" | cut -f1)
Depends: $needs
Section: utils
Priority: optional
Description: streaming corpus filter with masked language models
 Reads documents from Kafka, files or standard input, scores each with a masked
 language model in ONNX Runtime, judges the scores by rules from a file, and
 delivers every document to one route, with the reason in its headers.
END
package=$out/tamis_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package"
