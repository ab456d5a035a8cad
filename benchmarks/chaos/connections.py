"""The TCP connections that processes have open: which clients die with them."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED_OR_ENDING = {"01", "04", "05", "08"}
"""ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT: somebody may still wait for something (include/net/tcp_states.h)."""


@dataclass(frozen=True, slots=True)
class Connection:
    """By its ports."""

    local: int
    remote: int


def connections(pids: Iterable[int]) -> list[Connection]:
    """Of processes in one network namespace; nothing of those that are gone."""
    inodes: set[str] = set()
    tables: dict[str, Connection] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(str(descriptor.readlink()))
            tables |= tables or _table(pid)
    return [connection for inode, connection in tables.items() if f"socket:[{inode}]" in inodes]


def _table(pid: int) -> dict[str, Connection]:
    """All of its namespace, by inode (proc(5), /proc/net/tcp: address:port in hexadecimal, state, …, inode)."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text("ascii").splitlines()[1:]:
            _, local, remote, state, *_, inode = line.split()[:10]
            if state in _ESTABLISHED_OR_ENDING:
                found[inode] = Connection(*(int(end.rpartition(":")[2], 16) for end in (local, remote)))
    return found
