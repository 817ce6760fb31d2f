# shellcheck shell=bash
# What every script in hack/ shares: where things are, how to speak, how to fail, how to time a stage.

# EPOCHREALTIME and printf %f follow the locale's decimal comma otherwise.
export LC_ALL=C

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die MESSAGE [NEXT]: what went wrong and where, then what to do about it.
die() {
  printf '%s: error: %s\n' "${0##*/}" "$1" >&2
  if [[ $# -gt 1 ]]; then printf '  next: %s\n' "$2" >&2; fi
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

now_us() { printf '%s' "${EPOCHREALTIME/./}"; }

# seconds_since MICROSECONDS: "4.2".
seconds_since() {
  local us=$(($(now_us) - $1))
  printf '%d.%d' $((us / 1000000)) $((us % 1000000 / 100000))
}

stage_row() { printf '  %-30s %8s   %s\n' "$1" "$2" "$3"; }

# stage NAME COMMAND…: runs it and prints one row with its time. The command may leave a remark in STAGE_NOTE.
stage() {
  local name=$1 began
  shift
  began=$(now_us)
  STAGE_NOTE=
  "$@"
  stage_row "$name" "$(seconds_since "$began") s" "$STAGE_NOTE"
}

# tail_of FILE: the end of a log, indented, for an error message.
tail_of() {
  if [[ -s $1 ]]; then
    printf '  last lines of %s:\n' "$1" >&2
    tail -n 15 "$1" | cut -c1-400 | sed 's/^/    /' >&2
  fi
}

# with_lock FILE MESSAGE: holds an exclusive lock until this process ends; says MESSAGE if it has to wait.
# The descriptor is LOCK_FD, so that whatever is started to outlive us can close it.
with_lock() {
  mkdir -p "$(dirname "$1")"
  exec {LOCK_FD}>"$1"
  if ! flock -n "$LOCK_FD"; then
    say "  $2"
    flock "$LOCK_FD"
  fi
}
