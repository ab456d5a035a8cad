#!/usr/bin/env bash
# Prints the path of a uv that works: the one on the path, else our own in .tools/, fetched with pip.
#
# Found is not enough: a version manager's shim answers to the name even where no uv is behind it, so uv is run.

source "$(dirname "$0")/environment.sh"

# The uv at $1 runs, and is 0.8 or newer (`uv pip compile --group`, with which the lock is made).
works() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    [[ $version =~ ^uv\ ([0-9]+)\.([0-9]+) ]] || return 1
    ((BASH_REMATCH[1] > 0 || BASH_REMATCH[2] >= 8))
}

if found=$(command -v uv) && works "$found"; then
    printf '%s\n' "$found"
    exit
fi
if ! works .tools/bin/uv; then
    say "fetching uv"
    pip_fetch 'uv>=0.8'
    works .tools/bin/uv || die "the uv that pip fetched does not run on this machine"
fi
printf '%s\n' "$PWD/.tools/bin/uv"
