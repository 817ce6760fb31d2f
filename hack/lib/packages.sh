# shellcheck shell=bash
# Programs that come from Debian.

# ensure_packages PROGRAM=PACKAGE…: installs what is missing. Leaves a remark in STAGE_NOTE.
ensure_packages() {
  # Debian puts servers into sbin, which is not on every user's path.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  local pair missing=()
  for pair in "$@"; do
    have "${pair%%=*}" || missing+=("${pair#*=}")
  done
  STAGE_NOTE="nothing to install"
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi

  local sudo=()
  have apt-get || die "these programs are missing, and this is not a Debian system: ${missing[*]}" \
    "install them by this system's package manager, so that they are on PATH"
  if [[ $EUID -ne 0 ]]; then
    if have sudo && sudo -n true 2>/dev/null; then
      sudo=(sudo -n)
    else
      die "these Debian packages are missing, and only root can install them: ${missing[*]}" \
        "sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
  fi
  say "  installing from Debian: ${missing[*]}"
  apt_install "${missing[@]}"
  for pair in "$@"; do
    have "${pair%%=*}" || die "package ${pair#*=} is installed, but there is no program ${pair%%=*} on PATH ($PATH)"
  done
  STAGE_NOTE="installed ${missing[*]}"
}

# apt_install PACKAGE…: uses the caller's $sudo.
apt_install() {
  local log policy=/usr/sbin/policy-rc.d made_policy=
  log=$(mktemp)
  # These packages start their daemons when installed; the test bed runs its own. 101 means "not allowed".
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod +x "$policy"
    made_policy=yes
  fi
  local ok=yes
  "${sudo[@]}" apt-get update -q -o DPkg::Lock::Timeout=300 >"$log" 2>&1 || warn "apt-get update failed; going on with the package lists that are there"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null || ok=
  if [[ -n $made_policy ]]; then "${sudo[@]}" rm -f "$policy"; fi
  if [[ -z $ok ]]; then
    tail_of "$log"
    die "apt-get could not install: $*" "read $log, put that right, and run this again"
  fi
  # Without this they would come up at the next boot of a machine with systemd.
  if [[ -d /run/systemd/system ]]; then
    local unit
    for unit in etcd prometheus haproxy; do
      if [[ " $* " == *" $unit"* ]]; then "${sudo[@]}" systemctl disable -q "$unit" 2>/dev/null || true; fi
    done
  fi
  rm -f "$log"
}
