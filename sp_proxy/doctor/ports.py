"""The daemon's ports: its own while it runs, free while it does not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.doctor.sockets import Listening, name_of, process_of
from sp_proxy.settings.checks import sockets
from sp_proxy.settings.keys import dotted
from sp_proxy.settings.model import SettingsModel

AREA = Area("ports")
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def judge(
    settings: SettingsModel, found: Sequence[Listening], *, runs: bool, users: Sequence[int]
) -> Iterator[Finding]:
    """``runs``: a daemon answers. ``users``: whose it may be; empty when that is not known."""
    good = []
    for wanted in sockets(settings):
        key, port = dotted(wanted.path), wanted.address.port
        holders = [each for each in found if each.port == port]
        foreign = [each for each in holders if users and each.user not in users]
        if foreign or (holders and not runs):
            holder = (foreign or holders)[0]
            yield AREA.fail(
                f"{key}: port {port} is taken by {_who(holder)}",
                f"end that, or give {key} another port and apply the rules",
            )
        elif runs and not holders:
            yield AREA.fail(
                f"{key}: nobody listens on port {port}, though a daemon runs",
                "it has other settings: see configuration",
            )
        else:
            good.append(str(port))
    if good:
        yield AREA.ok(f"{', '.join(good)}: {'its own' if runs else 'free'}")
    yield from _heartbeat(settings, found)
    yield from _ephemeral(settings, _RANGE)


def _heartbeat(settings: SettingsModel, found: Sequence[Listening]) -> Iterator[Finding]:
    heartbeat = settings.netfilter.heartbeat
    for port in (heartbeat.port, heartbeat.port + 1) if heartbeat.enabled else ():
        for holder in found:
            if holder.port == port:
                yield AREA.warn(
                    f"{_who(holder)} listens on port {port}, where heartbeats are sent",
                    "it gets a connection each second, and its clients' may be taken for heartbeats: "
                    "change netfilter.heartbeat.port, apply the rules and restart the daemon",
                )
                break


def _ephemeral(settings: SettingsModel, path: Path) -> Iterator[Finding]:
    try:
        low, high = map(int, path.read_text("ascii").split())
    except (OSError, ValueError):
        return
    inside = [wanted for wanted in sockets(settings) if low <= wanted.address.port <= high]
    for wanted in inside:
        yield AREA.warn(
            f"{dotted(wanted.path)}: port {wanted.address.port} is one of those that outgoing connections use ({low} to {high})",
            "sometimes it will be taken at a start: use a port outside, or net.ipv4.ip_local_reserved_ports",
        )


def _who(holder: Listening) -> str:
    pid = process_of(holder.inode)
    return f"process {pid} ({name_of(pid)}, user {holder.user})" if pid else f"a process of user {holder.user}"
