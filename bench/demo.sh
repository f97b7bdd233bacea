#!/usr/bin/env bash
# The demonstration: starts a node on the loopback example, sends real calls with real audio through it, and
# holds what its call detail records say against what the generator knows. Ends by itself within a minute.
# Exit status 0 means: every call answered, heard on both sides, ended cleanly, and in exactly one record.
#
# Needs bash and coreutils, no root. BIN names the folder of the programs (target/release), CALLS and RATE
# the load.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${BIN:-target/release}
CONFIG=${CONFIG:-config/examples/loopback.toml}
CALLS=${CALLS:-200}
RATE=${RATE:-50}
SBC=127.0.0.1:5060
METRICS_PORT=9464

RUN=$(mktemp -d "${TMPDIR:-/tmp}/tandem-demo.XXXXXX")
export TANDEM_RUN=$RUN
SBCD=

finish() {
    local status=$?
    trap - EXIT
    if [[ -n $SBCD ]]; then
        kill -KILL "$SBCD" 2>/dev/null || true
        wait "$SBCD" 2>/dev/null || true
    fi
    if ((status == 0)); then
        rm -rf "$RUN"
    else
        echo "demo: kept $RUN (log, records, ledger) to look into" >&2
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '\ndemo: %s\n' "$*" >&2
    exit 1
}

# Is a port of this machine taken? The kernel lists local addresses as hex in the second column.
taken() {
    local kind=$1 port=$2 file hex local state
    printf -v hex ':%04X' "$port"
    for file in "/proc/net/$kind" "/proc/net/${kind}6"; do
        [[ -r $file ]] || continue
        while read -r _ local _ state _; do
            # A TCP socket that is only waiting out its end (06) keeps nobody from listening.
            [[ $local == *"$hex" && $state != 06 ]] && return 0
        done <<<"$(cat "$file")" # bash itself would read the file byte by byte
    done
    return 1
}

check_ports() {
    local free=1
    taken udp 5060 && echo "demo: UDP port 5060 (the SBC) is taken" >&2 && free=0
    taken udp 5070 && echo "demo: UDP port 5070 (the called side) is taken" >&2 && free=0
    taken tcp "$METRICS_PORT" && echo "demo: TCP port $METRICS_PORT (metrics) is taken" >&2 && free=0
    ((free)) || die "end what holds these ports and try again; the example's ports are fixed"
}

# One page of metrics, over bash's own TCP.
metrics() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$METRICS_PORT" || return 1
    printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    while IFS= read -r -t 2 line <&3; do
        printf '%s\n' "${line%$'\r'}"
    done
    exec 3<&-
}

start() {
    "$BIN/sbcd" --config "$CONFIG" 2>"$RUN/sbcd.log" &
    SBCD=$!
    for ((i = 0; i < 100; i++)); do
        if ! kill -0 "$SBCD" 2>/dev/null; then
            tail -n 20 "$RUN/sbcd.log" >&2
            die "sbcd ended before it was ready"
        fi
        if [[ -S $RUN/sbcd.sock ]] && timeout 2 "$BIN/sbcctl" status >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    tail -n 20 "$RUN/sbcd.log" >&2
    die "sbcd did not answer on $RUN/sbcd.sock within 10 seconds"
}

# Lines of all record files.
records() {
    local files=("$RUN"/cdr/*.ndjson)
    [[ -e ${files[0]} ]] || { echo 0; return; }
    cat "${files[@]}" | wc -l
}

# Records reach their file after the call: waits until all are there, or for five seconds.
await_records() {
    for ((i = 0; i < 50; i++)); do
        (($(records) >= $1)) && return
        sleep 0.1
    done
}

stop() {
    local status=0 pid=$SBCD
    kill -TERM "$pid"
    # A node that will not end is ended, and that is a failure.
    for ((i = 0; i < 80; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null && echo "demo: sbcd had to be killed" >&2
    wait "$pid" || status=$?
    SBCD=
    ((status == 0)) || { tail -n 20 "$RUN/sbcd.log" >&2; die "sbcd ended with status $status"; }
}

for program in sbcd sbcctl sbcload; do
    [[ -x $BIN/$program ]] || die "$BIN/$program is missing: cargo build --release -p engine -p sbcctl -p bench"
done
check_ports

say "Starting sbcd on $CONFIG"
start
echo "ready: SIP $SBC, control $RUN/sbcd.sock, metrics http://127.0.0.1:$METRICS_PORT/metrics"

say "One call, both legs"
timeout 10 "$BIN/sbcload" call --to "$SBC" --calls 1 --hold 1 --ladder - --ledger "$RUN/ledger" ||
    die "the first call was not clean"

say "$CALLS calls at $RATE a second, 3 seconds of G.711 each way"
timeout 25 "$BIN/sbcload" call --to "$SBC" --calls "$CALLS" --rate "$RATE" --hold 3 --progress \
    --ledger "$RUN/ledger" || die "not every call was answered, heard on both sides and ended cleanly"

say "The last call detail record"
await_records $((CALLS + 1))
(($(records) > 0)) || die "no call detail record under $RUN/cdr"
"$BIN/sbcload" cdr "$RUN"/cdr/*.ndjson

say "Records against what the generator knows"
"$BIN/sbcload" cdr --quiet --ledger "$RUN/ledger" "$RUN"/cdr/*.ndjson || die "records and calls disagree"

say "Some metrics"
shown=0
page=$(metrics) || die "no metrics on port $METRICS_PORT"
while IFS= read -r line; do
    # Samples that moved: a name, perhaps labels, and a value that isn't zero.
    if [[ $line =~ ^[a-z_]+(\{[^}]*\})?\ [1-9] && $line != *_bucket* ]] && ((shown < 12)); then
        echo "$line"
        shown=$((shown + 1))
    fi
done <<<"$page"

say "Stopping sbcd"
stop
echo "sbcd drained and ended with status 0"
"$BIN/sbcload" cdr --quiet --ledger "$RUN/ledger" "$RUN"/cdr/*.ndjson ||
    die "records and calls disagree after the stop"

say "All well. To look around yourself: make run, and in another terminal"
echo "   sbcctl status    sbcctl top    sbcctl calls"
echo "   sbcload call --to $SBC --calls 500 --rate 100 --hold 10 --progress"
