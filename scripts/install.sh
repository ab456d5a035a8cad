#!/usr/bin/env bash
# Makes .venv, or brings it up to date: the locked packages, exactly, with their hashes checked, and sp_proxy itself,
# editable. Then tries it, as a user without rights where possible: the daemon will be one.

source "$(dirname "$0")/environment.sh"

uv=$(scripts/find-uv.sh)
python=$(scripts/find-python.sh)
adopt_pip_settings

# In place where that is possible (packages stay, links and pyvenv.cfg are renewed), as another shell may be using it.
minor() { "$1" -I -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
if [ -d .venv ] && [ "$(minor .venv/bin/python)" != "$(minor "$python")" ]; then rm -rf .venv; fi
if [ "$(realpath -m .venv/bin/python)" != "$python" ]; then
    say "making .venv with $python"
    "$uv" venv --quiet --allow-existing --python "$python" .venv
fi

# One call for all, or sync would take the project out as not being in the lock. The lock pins the build backend too.
say "installing the locked packages"
"$uv" pip sync --quiet --python .venv/bin/python --build-constraints requirements-dev.lock \
    requirements-dev.lock - <<<'-e .'

as_nobody "$PWD/.venv/bin/python" -I -c 'import mitmproxy, sp_proxy, trio, uvloop' ||
    die "the installed environment does not work (see above)"
