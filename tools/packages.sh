#!/usr/bin/env bash
# packages.sh GROUP…: makes sure the Debian packages of each group are there. As root it installs what is
# missing; otherwise it says the one command that does, and fails.
set -euo pipefail

declare -A commands=(
    [build]="cc:gcc make:make"
    [peers]="sipp:sip-tester kamailio:kamailio rtpengine:rtpengine-daemon baresip:baresip-core linphonec:linphone-cli dnsmasq:dnsmasq-base openssl:openssl socat:socat chromium:chromium ip:iproute2 gcc:gcc python3:python3 tshark:tshark pkg-config:pkg-config strace:strace systemd-analyze:systemd"
)

# Packages without a command: a file that they have.
declare -A files=(
    [peers]="/usr/include/srtp2/srtp.h:libsrtp2-dev /usr/include/openssl/ssl.h:libssl-dev /usr/lib/*/kamailio/modules/websocket.so:kamailio-websocket-modules /usr/lib/*/kamailio/modules/tls.so:kamailio-tls-modules"
)

missing=()
for group in "$@"; do
    for pair in ${commands[$group]}; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    set -f
    for pair in ${files[$group]:-}; do
        compgen -G "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    set +f
done
if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or newer with rustup (Debian's own rustc is too old)" >&2
    exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "missing packages; on Debian: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
