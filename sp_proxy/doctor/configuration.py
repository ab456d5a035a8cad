"""Whether the configuration is right, readable for the daemon, and the one that it runs with."""

import json
from collections.abc import Iterator
from typing import Any

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.settings.engine import tls_config
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath, dotted, fields
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.masking import masked
from sp_proxy.settings.source import Source
from sp_proxy.supervisor.authority import check_authority

AREA = Area("configuration")
MAX_KEYS = 5
"""Keys that differ which are named."""


def load(source: Source) -> tuple[Loaded | None, list[Finding]]:
    """The settings, None when they cannot be used, and what is to be said about them."""
    place = str(source.path) if source.path else "environment and flags"
    try:
        loaded = source.load()
    except SettingsError as error:
        advice = "correct it; sp-proxy config check FILE says if that is all"
        if source.path is None:  # the likeliest mistake of all: the daemon has a file, and the doctor was not given it
            advice = "no file was named: --config FILE, that of the daemon; or correct the environment and --set"
        return None, [AREA.fail(problem, advice) for problem in error.problems]
    return loaded, [AREA.ok(f"{place}: no mistakes"), *_remarks(loaded)]


def _remarks(loaded: Loaded) -> Iterator[Finding]:
    for warning in loaded.warnings:
        yield AREA.warn(warning, "see docs/configuration.md")
    try:
        check_authority(tls_config(loaded.settings))
    except ValueError as error:
        yield AREA.fail(str(error), "sp-proxy ca init makes an authority; the daemon's user must be able to read it")


def readable(source: Source) -> Iterator[Finding]:
    """To be asked as the daemon's user."""
    if source.path is not None and not source.content():
        advice = "give it to the daemon's group (chmod 640): it is read at a start and at each reload"
        yield AREA.fail(f"{source.path}: the daemon's user may not read it", advice)


def compare(loaded: Loaded, in_force: dict[str, Any]) -> Iterator[Finding]:
    """``in_force``: what ``GET /config`` of the daemon says."""
    settings = in_force.get("settings")
    if not isinstance(settings, dict):
        return
    mine = json.loads(json.dumps(masked(loaded.settings)))
    different = [dotted(path) for path, _ in fields() if _at(settings, path) != _at(mine, path)]
    if not different:
        yield AREA.ok("the daemon runs with these settings")
        return
    named = ", ".join(different[:MAX_KEYS]) + (
        f" and {len(different) - MAX_KEYS} more" if len(different) > MAX_KEYS else ""
    )
    yield AREA.warn(
        f"the daemon runs with other settings: {named}",
        "reload it (SIGHUP, POST /reload) or restart it; or give the --config, --set and environment that it was started with",
    )


def _at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data
