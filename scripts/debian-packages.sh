#!/usr/bin/env bash
# As root on Debian, installs those packages of debian-packages.txt that are missing; as another user, or elsewhere, says
# which they are and goes on: what needs them is skipped with the reason then, and fails under CI=true.
# No service is started by it, now or at the next boot. Nothing missing: no network is used.

source "$(dirname "$0")/environment.sh"

listed() { sed -E '/^(#|$)/d; s/ .*//' scripts/debian-packages.txt; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    missing_tools=()
    for tool in buildah chromium curl h2load ip iptables mmdebstrap nft nginx runc setpriv shellcheck sysctl wrk; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing_tools+=("$tool")
    done
    if ((${#missing_tools[@]})); then say "this is not Debian; tests and the demo miss: ${missing_tools[*]}"; fi
    exit
fi

missing=()
for package in $(listed); do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then missing+=("$package"); fi
done
if ! ((${#missing[@]})); then exit; fi
if [ "$(id -u)" -ne 0 ]; then
    say "missing Debian packages (what needs them is skipped): sudo apt-get install ${missing[*]}"
    exit
fi

# Debian starts a service as soon as it is installed, unless policy-rc.d says no.
policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
say "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
"${apt[@]}" update >&2 || say "apt-get update failed: going on with the lists that are here"
if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >&2; then
    say "could not install: ${missing[*]}"
    if [ "${CI:-}" = true ]; then exit 1; fi
fi
if command -v systemctl >/dev/null; then
    for service in haproxy nginx postgresql prometheus redis-server; do
        case " ${missing[*]} " in
            *" $service "*) systemctl --quiet disable "$service" >&2 || true ;;
        esac
    done
fi
