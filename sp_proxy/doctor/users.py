"""User ids: the rules know the daemon by its user, so it must be that one, and nobody else may be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.doctor.sockets import Listening
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.netfilter.system import user_id
from sp_proxy.settings.checks import sockets
from sp_proxy.settings.model import SettingsModel

AREA = Area("user")
_OURS = (b"sp-proxy", b"sp_proxy")


class Process(Struct, frozen=True):
    """One process of this network namespace."""

    pid: int
    user: int
    command: bytes


def expected(settings: SettingsModel) -> tuple[int | None, list[Finding]]:
    """The daemon's user by the settings; None when this machine does not know it."""
    try:
        return user_id(settings.netfilter.user), []
    except NetfilterError as error:
        return None, [AREA.fail(str(error), "netfilter.user names the user that the daemon runs as")]


def judge(
    settings: SettingsModel, user: int, found: Sequence[Listening], processes: Sequence[Process]
) -> Iterator[Finding]:
    """``user`` is the daemon's by the settings."""
    ports = {each.address.port for each in sockets(settings) if each.path[0] == "listen"}
    actual = sorted({each.user for each in found if each.port in ports})
    transparent = settings.listen.inbound or settings.listen.outbound
    if actual and transparent and actual != [user]:
        yield AREA.fail(
            f"the daemon runs as user {', '.join(map(str, actual))}, and the rules know it as {user}: its own connections are "
            "redirected to itself, and closed",
            f"run it as user {user} (setpriv --reuid={user} --regid={user} --clear-groups), or set netfilter.user and apply the rules",
        )
    elif 0 in actual:
        yield AREA.warn(
            "the daemon runs as root, which it never needs", f"run it as a user of its own, {user} for example"
        )
    elif actual:
        yield AREA.ok(f"the daemon runs as user {actual[0]}")
    for process in processes:
        if process.user == user and user and not any(word in process.command for word in _OURS):
            name = process.command.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:60]
            yield AREA.warn(
                f"process {process.pid} ({name}) runs as user {user} too: what it connects to is not captured",
                "run it as another user",
            )


def processes_here() -> list[Process]:
    """Those of this network namespace, as far as they may be seen."""
    here = _link(Path("/proc/self/ns/net"))
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if _link(directory / "ns" / "net") == here:
                command = (directory / "cmdline").read_bytes()
                found.append(Process(int(directory.name), directory.stat().st_uid, command))
        except OSError:
            continue  # gone
    return sorted(found, key=lambda process: process.pid)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except PermissionError:
        return ""
