# shellcheck shell=bash
# The parts of the control plane: how each is started, and how to tell that it works.

# In the order they start; they stop in the reverse order.
COMPONENTS=(etcd kube-apiserver kube-controller-manager pod-discovery prometheus)
# Started on demand by `adapter balanced`.
ALL_COMPONENTS=("${COMPONENTS[@]}" balancer)

PORT_NAMES=(etcd etcd-peer kube-apiserver kube-controller-manager prometheus balancer balancer-admin)

# Sets PORT[…]: the ports of last time where they are still to be had, so that kubeconfigs handed out stay good.
allocate_ports() {
  declare -gA PORT=()
  local name file=$STATE/ports choose="" chosen owner
  if [[ -f $file ]]; then load_ports; fi
  for name in "${PORT_NAMES[@]}"; do
    owner=${name%-peer}
    owner=${owner%-admin}
    if [[ -z ${PORT[$name]:-} ]] || { ! pid_of "$owner" >/dev/null && ! port_is_free "${PORT[$name]}"; }; then
      choose=yes
    fi
  done
  if [[ -z $choose ]]; then
    STAGE_NOTE="kept"
    return
  fi
  stop_everything
  mapfile -t chosen < <(free_ports "${#PORT_NAMES[@]}")
  [[ ${#chosen[@]} -eq ${#PORT_NAMES[@]} ]] || die "no free loopback ports" "see what listens: ss -ltnp"
  for name in "${!PORT_NAMES[@]}"; do PORT[${PORT_NAMES[$name]}]=${chosen[$name]}; done
  for name in "${PORT_NAMES[@]}"; do printf '%s %s\n' "$name" "${PORT[$name]}"; done >"$file.new"
  mv -f "$file.new" "$file"
  STAGE_NOTE="chosen"
}

load_ports() {
  declare -gA PORT=()
  local name port
  [[ -f $STATE/ports ]] || return 1
  while read -r name port; do PORT[$name]=$port; done <"$STATE/ports"
}

apiserver_url() { printf 'https://127.0.0.1:%s' "${PORT[kube-apiserver]}"; }

# Sets COMMAND for a component, writes what it reads, and names in READS what else it has to be restarted for.
prepare() {
  READS=("$PKI/complete")
  case $1 in
    etcd) prepare_etcd ;;
    kube-apiserver) prepare_apiserver ;;
    kube-controller-manager) prepare_controller_manager ;;
    pod-discovery) prepare_pod_discovery ;;
    prometheus) prepare_prometheus ;;
    balancer) prepare_balancer ;;
  esac
}

prepare_etcd() {
  local client=http://127.0.0.1:${PORT[etcd]} peer=http://127.0.0.1:${PORT[etcd-peer]}
  COMMAND=(etcd --name=testbed --data-dir="$STATE/etcd"
    --listen-client-urls="$client" --advertise-client-urls="$client"
    --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="testbed=$peer"
    # Nothing here has to survive a power cut; on a slow disk this is the difference between fast and useless.
    --unsafe-no-fsync --quota-backend-bytes=4294967296 --logger=zap --log-level=warn)
}

prepare_apiserver() {
  COMMAND=("$BIN/kube-apiserver"
    --etcd-servers="http://127.0.0.1:${PORT[etcd]}"
    --secure-port="${PORT[kube-apiserver]}" --bind-address=127.0.0.1 --advertise-address=127.0.0.1
    # Refuses to publish a loopback address otherwise; nothing here needs the `kubernetes` Service's endpoints.
    --endpoint-reconciler-type=none
    --service-cluster-ip-range=10.0.0.0/24
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key"
    --client-ca-file="$PKI/ca.crt" --authorization-mode=RBAC
    --service-account-key-file="$PKI/service-account.pub"
    --service-account-signing-key-file="$PKI/service-account.key"
    --service-account-issuer=https://kubernetes.default.svc
    --requestheader-client-ca-file="$PKI/front-proxy-ca.crt"
    --requestheader-allowed-names=front-proxy-client
    --requestheader-username-headers=X-Remote-User
    --requestheader-uid-headers=X-Remote-Uid
    --requestheader-group-headers=X-Remote-Group
    --requestheader-extra-headers-prefix=X-Remote-Extra-
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key"
    --allow-privileged=true)
}

prepare_controller_manager() {
  local kubeconfig=$STATE/kubeconfig/kube-controller-manager
  write_client_kubeconfig kube-controller-manager
  COMMAND=("$BIN/kube-controller-manager"
    --kubeconfig="$kubeconfig" --authentication-kubeconfig="$kubeconfig" --authorization-kubeconfig="$kubeconfig"
    --secure-port="${PORT[kube-controller-manager]}" --bind-address=127.0.0.1
    # Its own default is to make an RSA certificate at every start.
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key"
    --leader-elect=false --use-service-account-credentials=true
    --service-account-private-key-file="$PKI/service-account.key" --root-ca-file="$PKI/ca.crt"
    --horizontal-pod-autoscaler-sync-period="${TESTBED_HPA_SYNC:-1s}"
    --concurrent-horizontal-pod-autoscaler-syncs=5
    # By default it may ask 20 times a second; getting its controllers going takes more than that, and 4 s.
    --kube-api-qps=500 --kube-api-burst=1000)
}

prepare_pod_discovery() {
  READS+=("$HACK/lib/pod-discovery.sh")
  COMMAND=("$HACK/lib/pod-discovery.sh" "$(apiserver_url)" "$PKI" "$STATE/targets.json")
}

prepare_prometheus() {
  local config=$STATE/prometheus.yml
  cat >"$config" <<YAML
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
scrape_configs:
- job_name: pods
  file_sd_configs:
  - files: [$STATE/targets.json]
YAML
  READS+=("$config")
  COMMAND=(prometheus --config.file="$config" --storage.tsdb.path="$STATE/prometheus" --storage.tsdb.retention.time=1d
    --web.listen-address="127.0.0.1:${PORT[prometheus]}" --web.enable-lifecycle
    # Picks up discovered pods in one second instead of five.
    --scrape.discovery-reload-interval=1s
    --log.level=info)
}

# `adapter balanced` writes $STATE/balancer.replicas: how to check them in the first line, then one address a line.
prepare_balancer() {
  local config=$STATE/haproxy.cfg replicas check="" index
  [[ -f $STATE/balancer.replicas ]] || die "the balancer has no replicas yet" "run: hack/testbed adapter balanced PORT [N]"
  mapfile -t replicas <"$STATE/balancer.replicas"
  if [[ ${replicas[0]} != tcp ]]; then check="option httpchk GET ${replicas[0]}"; fi
  {
    # An established connection stays where it is when its replica turns unready, as with kube-proxy.
    cat <<CFG
global
  maxconn 4096
  stats socket ipv4@127.0.0.1:${PORT[balancer-admin]} level admin
  log stdout format raw local0 info
defaults
  mode tcp
  log global
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout check 1s
  retries 2
  option redispatch
frontend wva
  bind 127.0.0.1:${PORT[balancer]}
  default_backend replicas
backend replicas
  balance roundrobin
  $check
  default-server check inter 200ms fall 2 rise 1 ${check:+check-ssl verify none}
CFG
    for ((index = 1; index < ${#replicas[@]}; index++)); do printf '  server replica%d %s\n' "$index" "${replicas[$index]}"; done
  } >"$config"
  if ! haproxy -c -f "$config" >"$STATE/haproxy.check" 2>&1; then
    tail_of "$STATE/haproxy.check"
    die "haproxy refuses its configuration, $config"
  fi
  READS+=("$config")
  COMMAND=(haproxy -db -f "$config")
}

# healthy NAME: whether it does its work, which is more than that it runs.
healthy() {
  pid_of "$1" >/dev/null || return 1
  case $1 in
    etcd) fetch "http://127.0.0.1:${PORT[etcd]}/health" | grep -q true ;;
    kube-apiserver) ask_apiserver /readyz >/dev/null && ask_apiserver /api/v1/namespaces/default >/dev/null ;;
    # Pods can be created from the moment their namespace has its service account.
    kube-controller-manager)
      fetch --cacert "$PKI/ca.crt" "https://127.0.0.1:${PORT[kube-controller-manager]}/healthz" >/dev/null &&
        ask_apiserver /api/v1/namespaces/default/serviceaccounts/default >/dev/null
      ;;
    pod-discovery) [[ -s $STATE/targets.json ]] ;;
    prometheus) fetch "http://127.0.0.1:${PORT[prometheus]}/-/ready" >/dev/null ;;
    balancer) ask_balancer "show info" | grep -q '^Pid:' ;;
  esac
}

fetch() { curl --silent --fail --noproxy '*' --max-time 5 "$@" 2>/dev/null; }

ask_apiserver() {
  local path=$1
  shift
  fetch --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$@" "$(apiserver_url)$path"
}

# ask_balancer COMMAND: on haproxy's administration port (its socket's path would have to be short).
ask_balancer() {
  (
    exec {fd}<>"/dev/tcp/127.0.0.1/${PORT[balancer-admin]}"
    printf '%s\n' "$1" >&"$fd"
    cat <&"$fd"
  ) 2>/dev/null
}

# start_component NAME: does nothing when it already runs as it should.
start_component() {
  local name=$1 signature COMMAND READS
  prepare "$name"
  signature=$({ printf '%q ' "${COMMAND[@]}" && cat "${READS[@]}"; } | sha256sum)
  if [[ $(cat "$STATE/pids/$name.signature" 2>/dev/null) == "$signature" ]] && recovers "$name"; then
    STAGE_NOTE="already up, pid $(pid_of "$name")"
    return
  fi
  stop_process "$name"
  launch "$name" "${COMMAND[@]}"
  wait_healthy "$name"
  printf '%s\n' "$signature" >"$STATE/pids/$name.signature"
  STAGE_NOTE="up, pid $(pid_of "$name")"
}

# recovers NAME: kube-apiserver needs a moment to find an etcd that was started again; starting it anew takes longer.
recovers() {
  local try
  for ((try = 0; try < 50; try++)); do
    if healthy "$1"; then return 0; fi
    pid_of "$1" >/dev/null || return 1
    sleep 0.2
  done
  return 1
}

wait_healthy() {
  local name=$1 began patience=${TESTBED_PATIENCE:-90}
  began=$(now_us)
  until healthy "$name"; do
    if ! pid_of "$name" >/dev/null; then
      tail_of "$(log_of "$name")"
      die "$name ended right after its start" "read $(log_of "$name"); if its data is at fault: hack/testbed up --fresh"
    fi
    if [[ $(($(now_us) - began)) -gt $((patience * 1000000)) ]]; then
      tail_of "$(log_of "$name")"
      die "$name runs but was not healthy within $patience s" "read $(log_of "$name")"
    fi
    sleep 0.1
  done
}

stop_everything() {
  local index
  for ((index = ${#ALL_COMPONENTS[@]} - 1; index >= 0; index--)); do stop_process "${ALL_COMPONENTS[$index]}"; done
  stop_strays
}
