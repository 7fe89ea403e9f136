#!/usr/bin/env bash
# Owns the way back: uninstall.sh PREFIX DESTDIR removes what install.sh listed, and the folders that are empty then.
set -euo pipefail

base=$2$1
list=$base/share/tamis/installed
if [ ! -f "$list" ]; then
    echo "uninstall.sh: no $list, so nothing was installed there by make install" >&2
    exit 69
fi
mapfile -t files <"$list"
for file in "${files[@]}"; do
    rm -f "$base/$file"
done
for folder in share/tamis lib/tamis share/doc/tamis; do
    [ ! -d "$base/$folder" ] || find "$base/$folder" -depth -type d -empty -delete
done
echo "removed ${#files[@]} files from $base"
