# shellcheck shell=bash
# How kube-apiserver reaches the adapter, which runs as an ordinary process on loopback.
#
# The Service is of type ExternalName, because endpoints may not have loopback addresses. For such a Service
# kube-aggregator dials <externalName>:<the APIService's port> and takes no notice of the Service's own ports; so the
# port goes into both. The name it verifies stays wva.wva-system.svc.

ADAPTER_USAGE="hack/testbed adapter direct PORT | balanced PORT [N] [--ready PATH]   [--wait] [--apiservice NAME]…"

adapter() {
  local way=${1:-} replica_port=${2:-} count=2 wait="" check=tcp services=() port
  [[ $way == direct || $way == balanced ]] || die "adapter: '$way' is neither direct nor balanced" "$ADAPTER_USAGE"
  [[ $replica_port =~ ^[0-9]+$ && $replica_port -ge 1 && $replica_port -le 65535 ]] ||
    die "adapter $way: '$replica_port' is not a port" "$ADAPTER_USAGE"
  shift 2
  while [[ $# -gt 0 ]]; do
    case $1 in
      --wait) wait=yes ;;
      --ready)
        [[ ${2:-} == /* ]] || die "adapter: --ready needs a path such as /readyz" "$ADAPTER_USAGE"
        check=$2
        shift
        ;;
      --apiservice)
        [[ ${2:-} == v*.*.* ]] || die "adapter: --apiservice needs a name such as v1beta1.external.metrics.k8s.io" "$ADAPTER_USAGE"
        services+=("$2")
        shift
        ;;
      *)
        [[ $way == balanced && $1 =~ ^[0-9]+$ && $1 -ge 1 && $1 -le 200 ]] || die "adapter $way: cannot make sense of '$1'" "$ADAPTER_USAGE"
        count=$1
        ;;
    esac
    shift
  done
  if [[ ${#services[@]} -eq 0 ]]; then services=(v1beta1.external.metrics.k8s.io); fi

  port=$replica_port
  if [[ $way == balanced ]]; then
    start_balancer "$replica_port" "$count" "$check"
    port=${PORT[balancer]}
  else
    stop_process balancer
    rm -f "$STATE/balancer.replicas"
  fi
  register_adapter "$port" "${services[@]}"
  say "kube-apiserver reaches ${services[*]} at localhost:$port"
  if [[ -n $wait ]]; then wait_available "${services[@]}"; fi
}

# start_balancer PORT COUNT CHECK
start_balancer() {
  local index check="GET $3"
  if [[ $3 == tcp ]]; then check="a connection"; fi
  {
    printf '%s\n' "$3"
    for ((index = 2; index < $2 + 2; index++)); do printf '127.0.0.%d:%s\n' "$index" "$1"; done
  } >"$STATE/balancer.replicas"
  start_component balancer
  say "balancer on 127.0.0.1:${PORT[balancer]} before 127.0.0.2:$1 … 127.0.0.$(($2 + 1)):$1 (ready when $check succeeds)"
}

# register_adapter PORT APISERVICE…
register_adapter() {
  local port=$1 name
  shift
  apply <<YAML
{apiVersion: v1, kind: Namespace, metadata: {name: wva-system}}
YAML
  # A Service that manifests/ made is of type ClusterIP; the address it was given cannot be applied away.
  if [[ $(kubectl -n wva-system get service wva --ignore-not-found -o 'jsonpath={.spec.type}') == ClusterIP ]]; then
    kubectl -n wva-system delete service wva >/dev/null
  fi
  {
    cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: wva, namespace: wva-system}
spec:
  type: ExternalName
  externalName: localhost
  ports: [{name: https, port: $port, protocol: TCP}]
YAML
    for name in "$@"; do
      cat <<YAML
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: $name}
spec:
  group: ${name#*.}
  version: ${name%%.*}
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: false
  caBundle: $(base64 -w0 "$PKI/ca.crt")
  service: {namespace: wva-system, name: wva, port: $port}
YAML
    done
  } | apply
}

# Takes fields over from whoever applied them before, such as the manifests of a release.
apply() { kubectl apply --server-side --force-conflicts --field-manager=wva-testbed -f - >/dev/null; }

# wait_available APISERVICE…: until an answer comes through. The Available condition alone may still be that of the
# adapter before this one.
wait_available() {
  local name began
  began=$(now_us)
  for name in "$@"; do
    until ask_apiserver "/apis/${name#*.}/${name%%.*}" >/dev/null; do
      if [[ $(($(now_us) - began)) -gt 30000000 ]]; then
        kubectl get apiservice "$name" -o 'jsonpath={range .status.conditions[*]}  {.type}={.status} {.reason}: {.message}{"\n"}{end}' >&2
        die "$name does not answer through kube-apiserver after 30 s" "is the adapter running, on that port, with the certificate \$TESTBED_TLS_CERT?"
      fi
      # kube-apiserver waits longer after each failure, up to 30 s; a change to the Service makes it look now.
      kubectl -n wva-system annotate service wva --overwrite "wva-testbed/looked=$EPOCHREALTIME" >/dev/null
      sleep 0.2
    done
    say "$name answers after $(seconds_since "$began") s"
  done
}

# service_account_kubeconfig ACCOUNT NAMESPACE FILE
service_account_kubeconfig() {
  local account=$1 namespace=$2 file=$3 token
  token=$(kubectl -n "$namespace" create token "$account" --duration=24h) ||
    die "no token for service account '$account' in namespace '$namespace'" "create it first: kubectl -n $namespace create serviceaccount $account"
  write_kubeconfig "$file" "{token: $token}"
  say "$file: service account $namespace/$account, good for 24 h"
}
