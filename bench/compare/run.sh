#!/usr/bin/env bash
# Ourselves and the peers on the same load, in the same minutes, on this machine: rtpengine for media,
# Kamailio for signalling. Prints tables and appends JSON lines to target/compare/results.jsonl.
# Needs root and two cores; takes about twenty minutes. QUICK=1 shortens every run to a look,
# PARTS="media srtp secured signalling transports tls handshakes" does what it names. AHEAD=1 lets it go ahead
# of everything else the machine does, by priority within sessions and between them.
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ $(id -u) -eq 0 ]] || { echo "compare: needs root (to read kernel memory, and because rtpengine wants it)" >&2; exit 1; }
(($(nproc) >= 2)) || { echo "compare: needs two cores, one for the load and one for what is measured" >&2; exit 1; }
for program in sbcd sbcload; do
    [[ -x target/release/$program ]] || { echo "compare: cargo build --release -p engine -p bench" >&2; exit 1; }
done
ulimit -n 20000
exec python3 -B bench/compare/compare.py
