#!/usr/bin/env bash
# Owns where an installed tamis lies: install.sh RELEASE PREFIX DESTDIR. All of it is below PREFIX, and listed in
# PREFIX/share/tamis/installed, by which uninstall.sh takes it away again.
#
# The program looks for ONNX Runtime in ../lib/tamis, seen from itself. Pipelines name the model by its whole path, so that they run in any
# directory; the cache of scores is made in the directory where one runs them.
set -euo pipefail

release=$1 prefix=$2 root=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case $prefix in /*) ;; *)
    echo "install.sh: PREFIX must be a whole path, not $prefix" >&2
    exit 64
    ;;
esac
list=$(mktemp)
trap 'rm -f "$list"' EXIT

put() { # MODE SOURCE PLACE
    install -D -m "$1" "$2" "$root$prefix/$3"
    echo "$3" >>"$list"
}

put 755 "$release/tamis" bin/tamis
put 644 "$here/var/ort/libonnxruntime.so" lib/tamis/libonnxruntime.so

cd "$here"
for file in models/tamis-en/* models/tamis-en-int8/*; do
    put 644 "$file" "share/tamis/$file"
done
share=$prefix/share/tamis
for file in pipelines/*.toml; do
    put 644 "$file" "share/tamis/$file"
    sed -i "s#\"models/#\"$share/models/#; s#pipelines/demo/#$share/pipelines/demo/#; s#\"pipelines/heads/#\"$share/pipelines/heads/#; s#tamis \\(run\\|score\\) pipelines/#tamis \\1 $share/pipelines/#" \
        "$root$share/$file"
done
put 644 pipelines/README.md share/tamis/pipelines/README.md
put 644 pipelines/heads/spam.json share/tamis/pipelines/heads/spam.json
put 644 pipelines/demo/sample.jsonl share/tamis/pipelines/demo/sample.jsonl
for file in README.md CHANGELOG.md LICENSE; do
    put 644 "$file" "share/doc/tamis/$file"
done

made=$(mktemp -d)
trap 'rm -rf "$list" "$made"' EXIT
"$release/tamis" man --out "$made/man1"
for page in "$made"/man1/*.1; do
    put 644 "$page" "share/man/man1/${page##*/}"
done
complete() { # SHELL PLACE
    "$release/tamis" completions "$1" >"$made/$1"
    put 644 "$made/$1" "$2"
}
complete bash share/bash-completion/completions/tamis
complete zsh share/zsh/site-functions/_tamis
complete fish share/fish/vendor_completions.d/tamis.fish

echo share/tamis/installed >>"$list"
install -m 644 "$list" "$root$share/installed"
cat <<END
installed $(wc -l <"$list") files below $root$prefix; try, in any directory:
  tamis demo
  tamis score $share/pipelines/stdin.toml --input $share/pipelines/demo/sample.jsonl --summary
END
