# shellcheck shell=bash
# Processes that outlive the script, and the ports they listen on.

# A pid in a file may belong to somebody else by now. This variable in a process's environment says whose it is.
mark_of() { printf 'WVA_TESTBED_COMPONENT=%s:%s' "$STATE" "$1"; }

# is_ours PID MARK. While a process execs, its environment reads as empty: a stranger is one that stays without the mark.
is_ours() {
  local try
  for try in 1 2 3 4 5; do
    if grep -zqxF -- "$2" "/proc/$1/environ" 2>/dev/null; then return 0; fi
    [[ -e /proc/$1 && $try -lt 5 ]] || return 1
    sleep 0.02
  done
}

# Prints the pid of a component that runs, or fails.
pid_of() {
  local pid
  pid=$(cat "$STATE/pids/$1" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] && is_ours "$pid" "$(mark_of "$1")" && printf '%s' "$pid"
}

log_of() { printf '%s/logs/%s.log' "$STATE" "$1"; }

# launch NAME COMMAND…: in a session of its own, with nothing inherited but the environment.
launch() {
  local name=$1 log
  shift
  log=$(log_of "$name")
  mkdir -p "$STATE/pids" "$STATE/logs"
  (
    # An inherited lock would outlive us; an inherited pipe would keep our caller waiting.
    if [[ -n ${LOCK_FD:-} ]]; then exec {LOCK_FD}>&-; fi
    cd "$STATE"
    exec env "$(mark_of "$name")" setsid "$@" >>"$log" 2>&1 </dev/null
  ) &
  local pid=$! try
  printf '%s\n' "$pid" >"$STATE/pids/$name"
  # The mark shows only after the exec; until then the process would look like a stranger's.
  for ((try = 0; try < 200; try++)); do
    if is_ours "$pid" "$(mark_of "$name")" || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.01
  done
}

# end_process PID MARK SECONDS [SIGNAL]: signals the whole group, waits, then kills.
end_process() {
  local pid=$1 mark=$2 patience=$3 signal=${4:-TERM} began
  kill "-$signal" -- "-$pid" 2>/dev/null || kill "-$signal" "$pid" 2>/dev/null || return 0
  began=$(now_us)
  while is_ours "$pid" "$mark"; do
    if [[ $(($(now_us) - began)) -gt $((patience * 1000000)) ]]; then
      kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
      patience=1000000
    fi
    sleep 0.05
  done
}

# stop_process NAME [SIGNAL]
stop_process() {
  local pid
  if pid=$(pid_of "$1"); then end_process "$pid" "$(mark_of "$1")" 10 "${2:-TERM}"; fi
  rm -f "$STATE/pids/$1" "$STATE/pids/$1.signature"
}

# Ends what runs under this state folder's mark though no pid file says so: the folder was removed under a running bed.
stop_strays() {
  local file pid mark
  for file in /proc/[0-9]*/environ; do
    pid=${file//[!0-9]/}
    mark=$(grep -zF -- "WVA_TESTBED_COMPONENT=$STATE:" "$file" 2>/dev/null | tr -d '\0') || continue
    if [[ $mark == "WVA_TESTBED_COMPONENT=$STATE:"* ]]; then end_process "$pid" "$mark" 5; fi
  done
}

# uptime_of PID: "3m12s".
uptime_of() {
  local s
  s=$(($(date +%s) - $(stat -c %Y "/proc/$1")))
  if [[ $s -ge 3600 ]]; then
    printf '%dh%02dm' $((s / 3600)) $((s % 3600 / 60))
  elif [[ $s -ge 60 ]]; then
    printf '%dm%02ds' $((s / 60)) $((s % 60))
  else
    printf '%ds' "$s"
  fi
}

# free_ports COUNT: loopback ports nobody listens on. Taken from below the range from which the kernel picks source
# ports, so that no outgoing connection takes one while its component is stopped.
free_ports() {
  perl -MIO::Socket::INET -e '
    my ($want) = @ARGV;
    my ($low, $high, @held) = (20000, 32700);
    for (1 .. 5000) {
      last if @held == $want;
      my $port = $low + int(rand($high - $low));
      my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1) or next;
      push @held, [$port, $socket];
    }
    @held == $want or die "no free loopback ports between $low and $high\n";
    print "$_->[0]\n" for @held;' "$1"
}

port_is_free() {
  perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 1, ReuseAddr => 1)' "$1"
}
