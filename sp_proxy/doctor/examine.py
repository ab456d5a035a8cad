"""The whole examination, in the order in which one thing explains the next. Changes nothing, and sends nothing but an empty
request to each backend.
"""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from sp_proxy.doctor import backend, configuration, daemon, disk, kernel, ports, rules, users
from sp_proxy.doctor.acting import acting_as
from sp_proxy.doctor.daemon import NoAnswerError
from sp_proxy.doctor.findings import Finding
from sp_proxy.doctor.sockets import as_held, listening, process_of
from sp_proxy.netfilter.system import find_tools
from sp_proxy.settings.checks import sockets
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.source import Source


def examine(source: Source, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding, as it is made. With settings that cannot be used there is nothing more to look at."""
    loaded, found = configuration.load(source)
    yield from found
    if loaded is not None:
        yield from _examine(source, loaded, environ)


def _examine(source: Source, loaded: Loaded, environ: Mapping[str, str]) -> Iterator[Finding]:
    settings = loaded.settings
    runs, found = _ask(loaded)
    yield from found
    sockets_found = listening()
    own = next((each for each in sockets_found if runs and each.port == settings.admin.listen.port), None)
    pid = process_of(own.inode) if own else None
    if pid is not None:
        sockets_found = as_held(sockets_found, pid)
    user, problems = users.expected(settings)
    yield from problems
    if user is not None:
        yield from users.judge(settings, user, sockets_found, users.processes_here())
    actual = {each.user for each in sockets_found if each.port in {one.address.port for one in sockets(settings)}}
    yield from ports.judge(settings, sockets_found, runs=runs, users=sorted(actual) if runs else ())
    yield kernel.judge_version(kernel.release())
    yield kernel.judge_tools(find_tools())
    yield from kernel.judge_limits()
    yield kernel.judge_descriptors(*kernel.descriptor_limit(pid))
    yield from rules.examine(settings, runs=runs)
    look = partial(_as_daemon, source, _placed(settings, pid), environ)
    yield from acting_as(_acting(settings, user, actual, runs=runs), look)


def _as_daemon(source: Source, settings: SettingsModel, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield from configuration.readable(source)
    yield from disk.examine(settings, environ)
    yield from backend.examine(settings, environ)


def _placed(settings: SettingsModel, pid: int | None) -> SettingsModel:
    """With relative paths as the daemon has them, where it runs: its directory is seldom ours."""
    try:
        directory = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return settings
    spool, store = settings.spool, settings.backend
    if spool.directory:
        spool = spool.model_copy(update={"directory": str(directory / spool.directory)})
    if store.database != ":memory:":
        store = store.model_copy(update={"database": str(directory / store.database)})
    return settings.model_copy(update={"spool": spool, "backend": store})


def _acting(settings: SettingsModel, expected: int | None, actual: set[int], *, runs: bool) -> int | None:
    """Whose eyes to use: those of the daemon that runs, or of the one that is to run; our own where that cannot be."""
    if os.geteuid() != 0:
        return None
    if runs and len(actual) == 1:
        return min(actual)
    transparent = settings.listen.inbound or settings.listen.outbound
    return expected if transparent else None


def _ask(loaded: Loaded) -> tuple[bool, list[Finding]]:
    """Whether a daemon answers, and what it says."""
    admin = loaded.settings.admin
    if not admin.enabled:
        return False, [daemon.AREA.skip("admin.enabled is false: there is nobody to ask", "admin.enabled: true")]
    try:
        ready, status = daemon.ask(admin, "/healthz/ready"), daemon.ask(admin, "/status")
        in_force = daemon.ask(admin, "/config")
    except NoAnswerError as error:
        advice = "start it: sp-proxy run (a container's log or journalctl -u sp-proxy says why it ended)"
        return False, [daemon.AREA.fail(f"none answers: {error}", advice)]
    try:
        return True, [*configuration.compare(loaded, in_force), *daemon.judge(ready, status)]
    except (KeyError, TypeError):
        text = "what answers is not this version of sp-proxy"
        return True, [daemon.AREA.warn(text, "use the doctor of the daemon's own version")]
