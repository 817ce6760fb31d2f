#!/usr/bin/env bash
# Plays Prometheus' service discovery of Kubernetes pods, which Debian's build of Prometheus leaves out: writes the
# running pods that ask to be scraped by the usual annotations into a file for file_sd_configs, once a second.
# Without prometheus.io/port every declared container port is a target of its own, as in Prometheus itself
# (data-parallel engines listen on several).
#
# usage: pod-discovery.sh APISERVER_URL PKI_FOLDER TARGETS_FILE
set -euo pipefail

URL=$1 PKI=$2 FILE=$3

# shellcheck disable=SC2016 # jq's variables, not the shell's
TARGETS='[.items[]
  | select(.metadata.annotations["prometheus.io/scrape"] == "true" and .status.phase == "Running" and .status.podIP)
  | .metadata as $meta | .status.podIP as $ip
  | (if $meta.annotations["prometheus.io/port"] then [$meta.annotations["prometheus.io/port"]]
     else [.spec.containers[].ports[]?.containerPort] | unique end)[]
  | {targets: ["\($ip):\(.)"],
     labels: ({namespace: $meta.namespace, pod: $meta.name}
       + if $meta.annotations["prometheus.io/path"] then {__metrics_path__: $meta.annotations["prometheus.io/path"]} else {} end)}]'

# resourceVersion=0 is answered from kube-apiserver's memory.
list_pods() {
  curl --silent --show-error --fail --noproxy '*' --max-time 5 --compressed \
    --cacert "$PKI/ca.crt" --cert "$PKI/pod-discovery.crt" --key "$PKI/pod-discovery.key" "$URL/api/v1/pods?resourceVersion=0"
}

while true; do
  # When kube-apiserver is away the last answer stays, as it does in Prometheus.
  if list_pods | jq -c "$TARGETS" >"$FILE.new"; then
    cmp -s "$FILE.new" "$FILE" || mv -f "$FILE.new" "$FILE"
  fi
  sleep 1
done
