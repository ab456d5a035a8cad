"""Recognises our own upstream connections when a wrong redirect rule sends them back to us.

Rules that do not bypass the daemon's own user make each upstream connection arrive as a new downstream one, which is relayed
to the same destination, and so on until the descriptors run out. Such a connection can be known exactly: its source and its
original destination are the local and remote address of an upstream connection of ours, which exists once in a network
namespace. The workers share a table of them, one slot a local port; a slot says whose it is, so that those of a process which
was killed can be freed: a later connection from the same port to the same place would be somebody else's.

Right rules send one back too, now and then: a client's connection that we have reset stays in the kernel's table for ten seconds
with its redirection (net.netfilter.nf_conntrack_tcp_timeout_close), and if one of ours gets the port that the client had, the
kernel takes it for the same and asks no rule. So what has come back once may be passed on, from another port; what comes back
again is a loop.
"""

import mmap
import os
import sys
from hashlib import blake2b

_SLOT_BYTES = 8
_OWNER_BYTES = 2
TABLE_BYTES = 65536 * _SLOT_BYTES
OWNERS = range(1, 65536)
"""Numbers of processes: the first two bytes of a slot, in which 0 means that it is free."""
_FREE = bytes(_OWNER_BYTES)
_RETURNED = (b"", b"returned")


def _number(owner: int) -> bytes:
    return owner.to_bytes(_OWNER_BYTES, sys.byteorder)


def _digest(source: str, destination: str, port: int, returned: bytes) -> bytes:
    return blake2b(
        f"{source} {destination} {port}".encode(), digest_size=_SLOT_BYTES - _OWNER_BYTES, person=returned
    ).digest()


class LoopGuard:
    """One per process, all over the same table. ``fd``: shared memory of ``TABLE_BYTES``; -1: a table of one's own."""

    def __init__(self, fd: int = -1, owner: int = OWNERS[-1]) -> None:
        """``owner`` is the process's number, among ``OWNERS``."""
        self._table = mmap.mmap(fd, TABLE_BYTES)
        self._owner = _number(owner)
        if fd >= 0:
            os.close(fd)

    def opened(self, local: tuple[str, int], destination: tuple[str, int], *, returned: bool = False) -> None:
        """An upstream connection leaves from this local address and port; ``returned``: for one of ours that came back."""
        at = local[1] * _SLOT_BYTES
        self._table[at : at + _SLOT_BYTES] = self._owner + _digest(local[0], *destination, _RETURNED[returned])

    def closed(self, local_port: int) -> None:
        """It is gone. What another process has opened from this port since then stays."""
        at = local_port * _SLOT_BYTES
        if self._table[at : at + _OWNER_BYTES] == self._owner:
            self._table[at : at + _SLOT_BYTES] = bytes(_SLOT_BYTES)

    def knows(self, local_port: int) -> bool:
        """Whether an upstream connection of ours leaves from this port of any address."""
        at = local_port * _SLOT_BYTES
        return self._table[at : at + _OWNER_BYTES] != _FREE

    def is_ours(self, source: tuple[str, int], destination: tuple[str, int]) -> bool:
        """Whether the connection from ``source``, originally to ``destination``, is an upstream connection of ours."""
        return self.returns(source, destination) > 0

    def returns(self, source: tuple[str, int], destination: tuple[str, int]) -> int:
        """How often this connection has come back to us: 0: it is nobody's of us, 1: for the first time, 2: again."""
        at = source[1] * _SLOT_BYTES
        digest = self._table[at + _OWNER_BYTES : at + _SLOT_BYTES]
        for times, returned in enumerate(_RETURNED, 1):
            if digest == _digest(source[0], *destination, returned):
                return times
        return 0

    def forget(self, owner: int) -> int:
        """The process with this number is no more, and its connections with it. How many slots it had left."""
        with memoryview(self._table[:]) as table, table.cast("H") as numbers, numbers[:: _SLOT_BYTES // 2] as owners:
            ports = [port for port, each in enumerate(owners.tolist()) if each == owner]
        for port in ports:
            at = port * _SLOT_BYTES
            if self._table[at : at + _OWNER_BYTES] == _number(owner):  # or another process took the port this instant
                self._table[at : at + _SLOT_BYTES] = bytes(_SLOT_BYTES)
        return len(ports)
