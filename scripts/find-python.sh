#!/usr/bin/env bash
# Prints the path of the interpreter to make .venv from: CPython >= 3.12 that other users can run too.
#
# The daemon runs as a user of its own, without privileges, while version managers keep interpreters in home
# directories, which are often closed: those are copied into .python/. Where there is none at all, uv fetches one.
# PYTHON=/path/to/python3 chooses an interpreter.

source "$(dirname "$0")/environment.sh"

# Where candidate $1 really is, if it is a CPython that fits; a virtual environment leads to what it was made from.
fitting() {
    "$1" -I -c '
import os, sys, sysconfig
fits = sys.implementation.name == "cpython" and sys.version_info >= (3, 12)
if fits and sys.version_info.releaselevel == "final" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(os.path.realpath(sys._base_executable))
' 2>/dev/null || true
}

find_interpreter() {
    local candidate found
    # The bare name comes first: pyenv answers it with the version that .python-version names.
    for candidate in python3 python3.12 python3.13 python3.14 /usr/bin/python3 /usr/local/bin/python3; do
        found=$(fitting "$candidate")
        if [ -n "$found" ]; then
            printf '%s\n' "$found"
            return
        fi
    done
    return 1
}

if [ -n "${PYTHON:-}" ]; then
    python=$(fitting "$PYTHON")
    [ -n "$python" ] || die "PYTHON=$PYTHON is not a CPython >= 3.12"
elif ! python=$(find_interpreter); then
    say "no CPython >= 3.12 on this machine: fetching one with uv"
    adopt_pip_settings
    export UV_PYTHON_INSTALL_DIR="$PWD/.python"
    uv=$(scripts/find-uv.sh)
    "$uv" python install --no-bin 3.12 >&2 || die "no CPython >= 3.12: install one, or name one with PYTHON=/path/to/python3"
    python=$(realpath "$("$uv" python find --managed-python 3.12)")
fi

if [ "$(uname -s)" != Linux ] || as_open_as_project "$python"; then
    printf '%s\n' "$python"
else
    scripts/copy-python.sh "$python"
fi
