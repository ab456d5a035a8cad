#!/bin/sh
# Init container (or unit before the daemon): writes the redirect rules, then shows that they work.
#
#   init.sh [--go-on] [CONFIG]
#
# Settings come as for the daemon: SP_PROXY_... variables, and a configuration file, if any. Needs root with NET_ADMIN and
# NET_RAW; with SYS_ADMIN besides, inbound is probed too. Run it again as often as you like.
#
# Rules that cannot be written, or do not work, are taken away, so that traffic flows without sp-proxy rather than not at
# all. That is a failure, or with --go-on, which is for pods, a reason given and exit code 0: else the application would
# wait for ever.
set -eu

go_on=
if [ "${1:-}" = --go-on ]; then
    go_on=yes
    shift
fi
config=${1:-}
set --
if [ -n "$config" ]; then
    set -- --config "$config"
fi

# give_up REASON: nothing is redirected. Kubernetes shows what is in the termination log.
give_up() {
    echo "init.sh: $1" >&2
    if [ -z "$go_on" ]; then exit 1; fi
    echo "init.sh: going on: traffic flows, and nothing is captured" >&2
    if [ -w /dev/termination-log ]; then echo "$1: nothing is captured" >/dev/termination-log; fi
    exit 0
}

# As the pod's own addresses and its node's (the downward API).
if [ -n "${POD_IP:-}" ] && [ "$POD_IP" = "${HOST_IP:-}" ]; then
    give_up "this pod is on its node's own network: the rules would be the node's"
fi
if ! sp-proxy netfilter apply --no-verify "$@"; then
    give_up "the rules could not be written"
fi
if ! sp-proxy netfilter verify "$@"; then
    echo "init.sh: the rules do not work as meant: removing them, so that traffic flows without sp-proxy" >&2
    sp-proxy netfilter remove
    give_up "the rules do not work as meant, and are removed"
fi
