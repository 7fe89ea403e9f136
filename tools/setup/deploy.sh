#!/usr/bin/env bash
# Owns var/deploy: the tools by which `make deploy-check` judges deploy/. helm and kubectl-validate come as source through Go's module
# proxy, Prometheus and promtool out of Debian's package (unpacked, not installed), the schemas of other people's resources out of
# their Go modules. Versions are pinned here; Go's checksum database verifies the modules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
helm=v3.19.0 kubectl_validate=v0.0.4 keda=v2.17.2 operator=v0.85.0 kubernetes=v1.34.0
bin=$PWD/var/deploy/bin crds=$PWD/var/deploy/crds schemas=$PWD/var/deploy/schemas
mkdir -p "$bin" "$crds"

die() {
    echo "deploy.sh: $1" >&2
    exit 69
}

need_go() {
    command -v go >/dev/null || die "no Go (1.24 or newer) to build helm and kubectl-validate with: https://go.dev/dl/"
}

# Builds the command of a Go module, unless it is there.
go_tool() { # NAME MODULE VERSION
    if [ "$(cat "$bin/$1.version" 2>/dev/null)" = "$3" ] && [ -x "$bin/$1" ]; then return; fi
    need_go
    echo "deploy.sh: building $1 $3 (minutes, once)" >&2
    GOBIN=$bin CGO_ENABLED=0 GOFLAGS=-modcacherw go install "$2@$3" >&2 || die "$1 $3 could not be built (Go's errors are above)"
    echo "$3" >"$bin/$1.version"
}

# Sets $dir to the source of a Go module.
go_source() { # MODULE VERSION
    need_go
    dir=$(cd / && GOFLAGS=-modcacherw go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    [ -d "$dir" ] || die "the Go module $1 $2 could not be had"
}

# Copies a file out of a Go module.
go_file() { # MODULE VERSION FILE AS
    if [ "$(cat "$crds/$4.version" 2>/dev/null)" = "$2" ] && [ -e "$crds/$4" ]; then return; fi
    go_source "$1" "$2"
    [ -f "$dir/$3" ] || die "$1 $2 has no $3"
    install -m 644 "$dir/$3" "$crds/$4"
    echo "$2" >"$crds/$4.version"
}

go_tool helm helm.sh/helm/v3/cmd/helm $helm
go_tool kubectl-validate sigs.k8s.io/kubectl-validate $kubectl_validate
go_file github.com/kedacore/keda/v2 $keda config/crd/bases/keda.sh_scaledobjects.yaml scaledobjects.yaml
for kind in servicemonitors prometheusrules; do
    go_file github.com/prometheus-operator/prometheus-operator $operator \
        "example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" $kind.yaml
done

# kubectl-validate knows Kubernetes up to 1.30; a newer one's schemas are in its source, under other names.
if [ "$(cat "$schemas/version" 2>/dev/null)" != $kubernetes ]; then
    go_source k8s.io/kubernetes $kubernetes
    rm -rf "$schemas"
    mkdir -p "$schemas/api"
    cp "$dir/api/openapi-spec/v3/api__v1_openapi.json" "$schemas/api/v1.json"
    for spec in "$dir"/api/openapi-spec/v3/apis__*__*_openapi.json; do
        name=${spec##*/apis__}
        name=${name%_openapi.json}
        mkdir -p "$schemas/apis/${name%%__*}"
        cp "$spec" "$schemas/apis/${name%%__*}/${name##*__}.json"
    done
    chmod -R u+w "$schemas"
    echo $kubernetes >"$schemas/version"
fi

if [ ! -x "$bin/prometheus" ] || [ ! -x "$bin/promtool" ]; then
    if command -v prometheus promtool >/dev/null; then
        ln -sf "$(command -v prometheus)" "$(command -v promtool)" "$bin/"
    else
        command -v apt-get >/dev/null || die "no prometheus and promtool: install them"
        echo "deploy.sh: getting Debian's prometheus package (19 MB, once)" >&2
        new=$(mktemp -d)
        trap 'rm -rf "$new"' EXIT
        (cd "$new" && apt-get -qq download prometheus) >&2 || die "apt-get could not get the package; try apt-get update"
        dpkg -x "$new"/prometheus_*.deb "$new/root"
        install -m 755 "$new/root/usr/bin/prometheus" "$new/root/usr/bin/promtool" "$bin/"
    fi
fi
command -v systemd-analyze >/dev/null || die "no systemd-analyze: install the package systemd"
