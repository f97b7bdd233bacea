#!/bin/sh
# Grows the corpora: coverage-guided libFuzzer on the stable toolchain.
#   fuzz/fuzz.sh [seconds per target, 60] [target ...]
# New inputs stay in target/fuzz-corpus; what crashed is left in target/fuzz-artifacts.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-message uri sdp dtls rtp_rtcp frame record node deck}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
cargo build --release -p targets --features libfuzzer --bin fuzz --target "$host" \
    --config profile.release.lto=false --target-dir target/fuzz
for target in $targets; do
    mkdir -p "target/fuzz-corpus/$target" "target/fuzz-artifacts/$target"
    TANDEM_TARGET=$target "target/fuzz/$host/release/fuzz" \
        "target/fuzz-corpus/$target" "fuzz/corpus/$target" \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="target/fuzz-artifacts/$target/" -print_final_stats=1
done
