# shellcheck shell=bash
# Programs that are built from hack/tools, one Go module for all. They are kept outside the checkout under a key made of
# the module's two files, so that a fresh clone finds them, and a change of version builds anew.

CACHE=${TESTBED_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set; set TESTBED_CACHE to a folder for built tools}/.cache}/wva}
TOOLS_SRC=$ROOT/hack/tools

# A program of ours has its sources in its name, so that a change builds it anew and nothing else.
own_tool() { printf '%s-%s' "$1" "$(cat "$TOOLS_SRC/$1"/*.go | sha256sum | cut -c1-12)"; }

METRICS_CLIENT=$(own_tool metrics-client)

# name=package, in the order they are built: kubectl first, because most of it is part of the next two.
GO_TOOLS=(
  kubectl=k8s.io/kubernetes/cmd/kubectl
  kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver
  kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager
  # The adapter library that every peer uses, with its own test provider: what ours is held against.
  test-adapter=sigs.k8s.io/custom-metrics-apiserver/test-adapter
  # client-go's metrics clients.
  "$METRICS_CLIENT=./metrics-client"
)

kubernetes_version() { awk '{ sub(/^require /, "") } $1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2; exit }' "$TOOLS_SRC/go.mod"; }

tools_key() {
  local hash
  # The last word is the recipe's own version: raise it when the flags of build_tool change.
  hash=$({ cat "$TOOLS_SRC/go.mod" "$TOOLS_SRC/go.sum" && uname -m && echo recipe-1; } | sha256sum)
  printf '%s-%s' "$(kubernetes_version)" "${hash:0:12}"
}

# Sets BIN, the folder of the built tools, whether or not they are built yet.
locate_tools() { BIN=$CACHE/tools/$(tools_key)/bin; }

tools_are_built() {
  local tool
  for tool in "${GO_TOOLS[@]}"; do
    [[ -x $BIN/${tool%%=*} ]] || return 1
  done
}

# One row per tool. Cheap when all are there: it needs no Go then.
build_tools() {
  local tool
  if tools_are_built; then
    for tool in "${GO_TOOLS[@]}"; do stage_row "${tool%%=*}" "0.0 s" "cached"; done
    return
  fi
  have go || die "Go is needed to build ${GO_TOOLS[*]%%=*}, and there is no 'go' on PATH" \
    "install Go $(awk '$1 == "go" { print $2 }' "$TOOLS_SRC/go.mod") or newer"
  check_disk
  with_lock "$CACHE/tools/lock" "waiting for another build of the same tools to finish"
  mkdir -p "$BIN"
  say "  building Kubernetes $(kubernetes_version) from its Go modules into $BIN"
  say "  (once for each version; some 10 minutes on 2 cores; may be interrupted and goes on where it stopped)"
  stage modules fetch_modules
  for tool in "${GO_TOOLS[@]}"; do
    stage "${tool%%=*}" build_tool "${tool%%=*}" "${tool#*=}"
  done
  exec {LOCK_FD}>&-
}

# Go's cache of this build takes some 4 GiB and its modules 1 GiB; running full midway leaves a puzzling linker error.
check_disk() {
  local folder free_mb
  mkdir -p "$CACHE" || die "cannot create the folder for built tools: $CACHE" "set TESTBED_CACHE to a folder that can be written"
  for folder in "$CACHE" "$(go env GOCACHE)" "$(go env GOMODCACHE)"; do
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free_mb=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
    if [[ $free_mb -lt 6144 ]]; then warn "only $free_mb MiB free where $folder is; building the Go tools takes up to 6144 MiB"; fi
  done
}

# Downloads what the tools need, and counts packages for the progress lines.
fetch_modules() {
  local log=$BIN/../modules.log try
  for try in 1 2 3; do
    if (cd "$TOOLS_SRC" && go list -deps -f '{{.ImportPath}}' "${GO_TOOLS[@]#*=}") >"$log.out" 2>"$log"; then
      STAGE_NOTE="$(wc -l <"$log.out") packages"
      return
    fi
    if [[ $try -lt 3 ]]; then
      warn "fetching the Go modules failed (try $try of 3): $(tail -n 1 "$log" | cut -c1-200)"
      sleep $((try * 5))
    fi
  done
  tail_of "$log"
  die "the Go modules of hack/tools cannot be fetched" "check GOPROXY ($(go env GOPROXY)) and the version of Go ($(go env GOVERSION))"
}

# build_tool NAME PACKAGE: appears in BIN only when complete.
build_tool() {
  local name=$1 package=$2 log=$BIN/../$1.log temp=$BIN/.$1.new version ldflags="-s -w" variable
  if [[ -x $BIN/$name ]]; then
    STAGE_NOTE=cached
    return
  fi
  version=$(kubernetes_version)
  # Without these, `kubectl version` and the server's /version show nonsense, and kubectl warns of version skew.
  for variable in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    ldflags+=" -X $variable.gitVersion=$version -X $variable.gitMajor=1"
    ldflags+=" -X $variable.gitMinor=$(cut -d. -f2 <<<"$version") -X $variable.gitTreeState=clean"
  done
  (
    cd "$TOOLS_SRC"
    # -v names each package as it is compiled: the log's length is the progress.
    CGO_ENABLED=0 exec go build -v -trimpath -buildvcs=false -mod=readonly -ldflags "$ldflags" -o "$temp" "$package"
  ) >"$log" 2>&1 </dev/null &
  if ! wait_with_progress $! "$name" "$log"; then
    tail_of "$log"
    die "building $name ($package, $version) failed" "read $log; then run this again, it goes on where it stopped"
  fi
  mv -f "$temp" "$BIN/$name"
  STAGE_NOTE="built, $(du -m "$BIN/$name" | cut -f1) MiB"
}

# wait_with_progress PID NAME LOG: a line every 20 s, so that nobody takes a long compile for a hang.
wait_with_progress() {
  local pid=$1 name=$2 log=$3 began=$SECONDS next=20
  # An interrupted script must not leave a compiler running.
  trap 'kill "$pid" 2>/dev/null || true' EXIT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [[ $((SECONDS - began)) -ge $next ]]; then
      say "    $name: $((SECONDS - began)) s, $(wc -l <"$log") packages compiled"
      next=$((next + 20))
    fi
  done
  trap - EXIT
  wait "$pid"
}
