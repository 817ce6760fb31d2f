# shellcheck shell=bash
# `wva serve` on the test bed beside VARIANTS variants, for what measures it; files in the folder WORK.

# Seconds until something is given up.
PATIENCE=60
SERVE_PID=
# What runs `serve`, and where it listens.
SERVE=(target/release/wva)
SERVE_PORT=0

install() {
  "$KUBECTL" apply --server-side -k manifests >/dev/null
  "$KUBECTL" apply -k apiservice >/dev/null
  "$HACK/testbed" kubeconfig wva wva-system "$WORK/kubeconfig" >/dev/null
}

# Each with a Deployment, an HPA that reads its value every second, and a pod that is placed only where a fleet plays
# scheduler: without one there are no engine series.
create_variants() {
  local number
  {
    printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n'
    for ((number = 0; number < VARIANTS; number++)); do
      cat <<YAML
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: variant-$number, namespace: bench}
spec:
  replicas: 1
  selector: {matchLabels: {app: variant-$number}}
  template:
    metadata:
      labels: {app: variant-$number}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8000"
        wva.llmd.ai/fleet-profile: llama-3.1-8b-h100
        wva.llmd.ai/fleet-model: model-$((number / 2))
        wva.llmd.ai/fleet-cold-start: 1s
    spec: {containers: [{name: vllm, image: vllm/vllm-openai, resources: {limits: {nvidia.com/gpu: "1"}}}]}
---
apiVersion: llmd.ai/v1alpha1
kind: VariantAutoscaling
metadata: {name: variant-$number, namespace: bench}
spec: {scaleTargetRef: {name: variant-$number}, modelID: model-$((number / 2)), maxReplicas: 8}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: variant-$number, namespace: bench}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: variant-$number}
  maxReplicas: 8
  metrics:
    - type: External
      external:
        metric: {name: wva_desired_replicas, selector: {matchLabels: {variant_name: variant-$number}}}
        target: {type: AverageValue, averageValue: "1"}
YAML
    done
  } >"$WORK/variants.yaml"
  "$KUBECTL" apply --server-side -f "$WORK/variants.yaml" >/dev/null
}

# Starts it, and sets READY_MS to the time until it is ready.
start_serve() {
  local began address="" answer
  # Emptied before, or the loop below would read the address of the process before this one.
  : >"$WORK/serve.log"
  began=$(now_us)
  # The allocator as the image sets it.
  env -i MALLOC_CONF=narenas:1 KUBECONFIG="$WORK/kubeconfig" POD_NAME=wva-bench POD_NAMESPACE=wva-system \
    "${SERVE[@]}" serve --config-map wva-config --prometheus-url "$PROMETHEUS_URL" \
    --server-bind-address 127.0.0.1 --server-port "$SERVE_PORT" --server-shutdown-delay 0s \
    --server-tls-cert-path "$TESTBED_TLS_CERT" --server-tls-key-path "$TESTBED_TLS_KEY" >"$WORK/serve.log" 2>&1 &
  SERVE_PID=$!
  while true; do
    address=$(sed -n 's/.*serving address=//p' "$WORK/serve.log")
    if [[ -n $address ]]; then
      answer=$(curl --silent --noproxy '*' --cacert "$TESTBED_CA" "https://$address/readyz" || true)
      if [[ $answer == ok ]]; then break; fi
    fi
    if ! kill -0 "$SERVE_PID" 2>/dev/null || [[ $(($(now_us) - began)) -gt $((PATIENCE * 1000000)) ]]; then
      tail_of "$WORK/serve.log"
      die "wva serve was not ready within $PATIENCE s" "read $WORK/serve.log"
    fi
    sleep 0.005
  done
  # shellcheck disable=SC2034 # Read by hack/bench.
  READY_MS=$((($(now_us) - began) / 1000))
}

stop_serve() {
  kill "$SERVE_PID"
  wait "$SERVE_PID" || true
  SERVE_PID=
}
