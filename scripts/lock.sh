#!/usr/bin/env bash
# Makes the lock files anew from pyproject.toml, for every platform and every Python it allows: requirements-dev.lock
# (all) and requirements.lock (what running needs, the same versions). Pins that still fit are kept; `--upgrade` renews
# them. These are the lock, and uv.lock is ignored, because uv.lock names the host that each file was fetched from.

source "$(dirname "$0")/environment.sh"

uv=$(scripts/find-uv.sh)
adopt_pip_settings
compile=("$uv" pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-header --no-annotate)
"${compile[@]}" "$@" --group dev --output-file requirements-dev.lock pyproject.toml >/dev/null
"${compile[@]}" --upgrade --constraints requirements-dev.lock --output-file requirements.lock pyproject.toml >/dev/null
