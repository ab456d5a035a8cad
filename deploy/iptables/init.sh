#!/bin/sh
# Init container (or unit before the daemon): writes the redirect rules, then shows that they work.
# Settings come as for the daemon: SP_PROXY_… variables, and a configuration file as the first argument, if any.
# Needs root with NET_ADMIN and NET_RAW; with SYS_ADMIN besides, inbound is probed too. Run it again as often as you like.
set -eu

config=${1:-}
set --
if [ -n "$config" ]; then
    set -- --config "$config"
fi

sp-proxy netfilter apply --no-verify "$@"
if ! sp-proxy netfilter verify "$@"; then
    echo "init.sh: the rules do not work as meant: removing them, so that traffic flows without sp-proxy" >&2
    sp-proxy netfilter remove
    exit 1
fi
