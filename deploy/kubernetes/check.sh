#!/usr/bin/env bash
# Owns the chart's test: lint it, render it with each set of values, and hold what comes out against the schemas of Kubernetes (1.27,
# 1.30 and 1.34), KEDA and the Prometheus operator; then hold a few facts that no schema knows. Needs what tools/setup/deploy.sh gets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PWD/var/deploy/bin:$PATH
chart=deploy/kubernetes/tamis
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
    echo "kubernetes/check.sh: $1" >&2
    exit 1
}
render() { # NAME OPTION…
    helm template english-web $chart --namespace corpora --kube-version 1.33.0 "${@:2}" >"$out/$1.yaml" 2>"$out/$1.log" || {
        cat "$out/$1.log" >&2
        return 1
    }
}
pipeline=(--set-file pipeline=pipelines/english-web.toml)

helm lint --strict --quiet $chart "${pipeline[@]}" 2>/dev/null || helm lint --strict $chart "${pipeline[@]}"
render minimal -f deploy/kubernetes/values/minimal.yaml "${pipeline[@]}"
render everything -f deploy/kubernetes/values/everything.yaml "${pipeline[@]}"
render bare -f deploy/kubernetes/values/bare.yaml
# The oldest and the newest that the validator brings, then a newer one by the schemas of its source.
validate() { # OPTION… FILE…
    kubectl-validate --local-crds var/deploy/crds "$@" >"$out/validate.log" 2>&1
}
newest=(--version 1.30 --local-schemas var/deploy/schemas)
rendered=("$out"/minimal.yaml "$out"/everything.yaml "$out"/bare.yaml)
for options in "--version 1.27" "--version 1.30" "${newest[*]}"; do
    # shellcheck disable=SC2086
    validate $options "${rendered[@]}" || {
        grep -v 'OK' "$out/validate.log" >&2
        fail "kubectl-validate $options says no"
    }
    [ "$(grep -c OK "$out/validate.log")" = 3 ] || fail "kubectl-validate $options did not look at three files"
done

# What is wrong must be refused: else the checks above prove nothing.
sed 's/terminationGracePeriodSeconds/terminationGraceSeconds/' "$out/minimal.yaml" >"$out/wrong.yaml"
sed 's/pollingInterval: 30/pollingInterval: often/' "$out/everything.yaml" >"$out/wrong-keda.yaml"
for wrong in wrong wrong-keda; do
    if validate "${newest[@]}" "$out/$wrong.yaml"; then fail "$wrong.yaml was taken for good"; fi
done
for wrong in "--set pipeline=" "--set pipeline=x --set replica=2" "--set pipeline=x --set autoscaling.enabled=true" \
    "--set pipeline=x --set existingConfigMap=y" "--set pipeline=x --set image.digest=latest"; do
    # shellcheck disable=SC2086
    if helm template t $chart --kube-version 1.33.0 $wrong >/dev/null 2>&1; then fail "helm template took $wrong"; fi
done

has() { grep -qF -- "$2" "$out/$1.yaml" || fail "$1.yaml lacks: $2"; }
lacks() { if grep -qF -- "$2" "$out/$1.yaml"; then fail "$1.yaml has: $2"; fi; }
for values in minimal everything bare; do
    for line in "podManagementPolicy: Parallel" "runAsNonRoot: true" "readOnlyRootFilesystem: true" "allowPrivilegeEscalation: false" \
        "drop: [ALL]" "type: RuntimeDefault" "automountServiceAccountToken: false" 'value: "0.0.0.0:9600"' "path: /livez" "path: /readyz" \
        "volumeClaimTemplates:" "publishNotReadyAddresses: true"; do
        has $values "$line"
    done
done
# The grace period outlasts the drain, whatever the drain.
has minimal "terminationGracePeriodSeconds: 180"
has bare "terminationGracePeriodSeconds: 750"
has bare 'value: "600000"'
has bare "replicas: 3"
has everything "nvidia.com/gpu: 1"
has everything "memory: 4Gi"
has everything "name: TAMIS__SOURCE__KAFKA__PROPERTIES_FILES__SASL_PASSWORD"
has everything "value: /etc/tamis/secrets/kafka-credentials/password"
has everything "secretName: kafka-credentials"
lacks everything "PROPERTIES__SASL_PASSWORD"
has everything "kind: ScaledObject"
has everything "alert: TamisStalled"
has everything "port: 8081"
has everything '"uid": "tamis"'
# With an autoscaler the chart must not set the count back at every upgrade.
if grep -qE '^  replicas:' "$out/everything.yaml"; then fail "everything.yaml sets replicas against the autoscaler"; fi
lacks minimal "nvidia.com/gpu"
lacks minimal "ScaledObject"
lacks bare "PodDisruptionBudget"
lacks bare "NetworkPolicy"
lacks bare "kind: ConfigMap"
# The rules and the pipeline that came out are the ones that went in.
var/venv/bin/python - "$out/everything.yaml" <<'END' || fail "what was rendered is not what went in"
import sys
text = open(sys.argv[1], encoding="utf-8").read()
inside = {line.strip() for line in text.splitlines()}
for path in ("deploy/prometheus/alerts.yml", "pipelines/english-web.toml"):
    lost = [line for line in open(path, encoding="utf-8").read().splitlines() if line.strip() not in inside]
    if lost:
        sys.exit(f"{path}: {lost[0]}")
END
echo "chart: rendered with three sets of values; good for Kubernetes 1.27, 1.30 and $(cat var/deploy/schemas/version); wrong ones refused"
