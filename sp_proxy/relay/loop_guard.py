"""Recognises our own upstream connections when a wrong redirect rule sends them back to us.

Rules that do not bypass the daemon's own user make each upstream connection arrive as a new downstream one, which is relayed
to the same destination, and so on until the descriptors run out. Such a connection can be known exactly: its source and its
original destination are the local and remote address of an upstream connection of ours, which exists once in a network
namespace. The workers share a table of them, one slot a local port.
"""

import mmap
import os
from hashlib import blake2b

_SLOT_BYTES = 8
TABLE_BYTES = 65536 * _SLOT_BYTES


def _digest(source: str, destination: str, port: int) -> bytes:
    return blake2b(f"{source} {destination} {port}".encode(), digest_size=_SLOT_BYTES).digest()


class LoopGuard:
    """One per worker, all over the same table. ``fd``: shared memory of ``TABLE_BYTES``; -1: a table of one's own."""

    def __init__(self, fd: int = -1) -> None:
        self._table = mmap.mmap(fd, TABLE_BYTES)
        if fd >= 0:
            os.close(fd)

    def opened(self, local: tuple[str, int], destination: tuple[str, int]) -> None:
        """An upstream connection leaves from this local address and port."""
        at = local[1] * _SLOT_BYTES
        self._table[at : at + _SLOT_BYTES] = _digest(local[0], *destination)

    def closed(self, local_port: int) -> None:
        """It is gone."""
        at = local_port * _SLOT_BYTES
        self._table[at : at + _SLOT_BYTES] = bytes(_SLOT_BYTES)

    def is_ours(self, source: tuple[str, int], destination: tuple[str, int]) -> bool:
        """Whether the connection from ``source``, originally to ``destination``, is an upstream connection of ours."""
        at = source[1] * _SLOT_BYTES
        slot = self._table[at : at + _SLOT_BYTES]
        return slot != bytes(_SLOT_BYTES) and slot == _digest(source[0], *destination)
