# shellcheck shell=bash
# What the other scripts share: the project's root as working directory, messages, and the machine's own client
# settings for package downloads. Sourced, not run.
#
# uv reads neither pip's configuration nor the system's certificates by itself. A machine that is set up for pip (a
# mirror, a company's certificate authority) is set up for us too: its settings are handed on, and never printed, as an
# address may hold a password.

set -euo pipefail
umask 022 # the daemon's user must be able to read what root installs
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# The first interpreter that has pip, of any version: pip is only used to fetch tools, and asked for its settings.
python_with_pip() {
    local candidate
    for candidate in python3 python3.12 python3.13 python3.14 /usr/bin/python3 python; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# pip_fetch TOOL: from the index pip is configured for, into .tools/, which needs no virtual environment.
pip_fetch() {
    local python
    if ! python=$(python_with_pip); then
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
            say "pip is missing: installing Debian's"
            apt-get update -qq >&2
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >&2
        fi
        python=$(python_with_pip) || die "no Python with pip was found (Debian: apt-get install python3-pip)"
    fi
    "$python" -m pip install -qq --disable-pip-version-check --target .tools --upgrade "$1" >&2
}

# Hands pip's index and certificates on to uv, where uv has none of its own.
adopt_pip_settings() {
    local python value
    python=$(python_with_pip) || return 0
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        value=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
        if [ -n "$value" ]; then export UV_DEFAULT_INDEX="$value"; fi
    fi
    if [ -z "${SSL_CERT_FILE:-}" ]; then
        value=${PIP_CERT:-$("$python" -m pip config get global.cert 2>/dev/null || true)}
        if [ -z "$value" ] && [ -r /etc/ssl/certs/ca-certificates.crt ]; then
            value=/etc/ssl/certs/ca-certificates.crt
        fi
        if [ -r "$value" ]; then export SSL_CERT_FILE="$value"; fi
    fi
}

# closed_above FILE: the directories over it that other users cannot pass through, one a line.
closed_above() {
    local directory
    directory=$(realpath "$1")
    while [ "$directory" != / ]; do
        directory=$(dirname "$directory")
        if [ $((0$(stat -c %a "$directory") & 1)) -eq 0 ]; then printf '%s\n' "$directory"; fi
    done
}

# Can other users reach FILE if they can reach the project? Directories that hold the project itself are not counted: a
# project in a closed home directory serves its owner only, whatever its interpreter.
as_open_as_project() {
    local directory
    while IFS= read -r directory; do
        case "$PWD/" in "$directory"/*) ;; *) return 1 ;; esac
    done < <(closed_above "$1")
}

# as_nobody COMMAND...: without any right where we can give them up and others can reach the project; else as we are.
# The environment is empty, and the working directory is the root's, as for a daemon.
as_nobody() {
    local drop=()
    if [ "$(id -u)" -eq 0 ] && [ -z "$(closed_above "$PWD/Makefile")" ] && command -v setpriv >/dev/null; then
        drop=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    fi
    (cd / && env -i "PATH=/usr/sbin:/usr/bin:/sbin:/bin" "${drop[@]}" "$@")
}
