# shellcheck shell=bash
# KEDA's operator and metrics adapter, for the end-to-end test that has them read wva. Not among the tools that are always
# built: it takes some five minutes of processor time, and four fifths of KEDA's packages are clients of systems that the
# test has nothing to do with. Those scalers are left out of the build; all else is as released.

KEDA_VERSION=v2.21.0
# Of KEDA's scalers, what stays: by the names of its files and of its triggers.
KEDA_SCALER_FILES=(external_scaler.go cpu_memory_scaler.go)
KEDA_TRIGGERS='cpu|memory|external|external-push'

# Sets KEDA, the folder of the built programs and of KEDA's definitions, whether or not they are there yet. The last word
# is the recipe's own version.
locate_keda() { KEDA=$CACHE/keda/$KEDA_VERSION-recipe-1; }

keda_is_built() { [[ -x $KEDA/operator && -x $KEDA/adapter && -d $KEDA/crd ]]; }

build_keda() {
  if keda_is_built; then
    stage_row keda "0.0 s" cached
    return
  fi
  have go || die "Go is needed to build KEDA, and there is no 'go' on PATH" "install Go"
  with_lock "$CACHE/keda/lock" "waiting for another build of KEDA to finish"
  mkdir -p "$KEDA"
  say "  building KEDA $KEDA_VERSION into $KEDA (some 1 GiB of Go modules, and five minutes)"
  stage "keda sources" fetch_keda
  stage keda compile_keda
  exec {LOCK_FD}>&-
}

# A copy of the released module without the other scalers.
fetch_keda() {
  local released source=$KEDA/src builder file name
  released=$(go mod download -json "github.com/kedacore/keda/v2@$KEDA_VERSION" | jq -er .Dir) ||
    die "KEDA $KEDA_VERSION cannot be fetched" "check GOPROXY ($(go env GOPROXY))"
  rm -rf -- "$source"
  cp -r "$released" "$source"
  chmod -R u+w "$source"
  for file in "$source"/pkg/scalers/*.go; do
    name=$(basename "$file")
    if [[ $name == *_test.go || ($name == *_scaler.go && " ${KEDA_SCALER_FILES[*]} " != *" $name "*) ]]; then rm -- "$file"; fi
  done
  # Of a file that went.
  printf 'package scalers\n\nconst externalMetricType = "External"\n' >"$source/pkg/scalers/external_metric_type.go"
  builder=$source/pkg/scaling/scalers_builder.go
  awk -v kept="^\tcase \"($KEDA_TRIGGERS)\":" '
    /^\tswitch triggerType \{/ { within = 1; print; next }
    within && /^\t(case|default)/ { keep = $0 ~ kept || $0 ~ /^\tdefault/ }
    !within || keep
  ' "$builder" >"$builder.new"
  mv -f "$builder.new" "$builder"
  rm -rf -- "$KEDA/crd"
  cp -r "$source/config/crd/bases" "$KEDA/crd"
}

compile_keda() {
  local log=$KEDA/build.log
  (
    cd "$KEDA/src"
    CGO_ENABLED=0 exec go build -v -trimpath -buildvcs=false -mod=readonly -ldflags "-s -w" -o "$KEDA/" ./cmd/operator ./cmd/adapter
  ) >"$log" 2>&1 </dev/null &
  if ! wait_with_progress $! keda "$log"; then
    tail_of "$log"
    die "building KEDA $KEDA_VERSION failed" "read $log"
  fi
}
