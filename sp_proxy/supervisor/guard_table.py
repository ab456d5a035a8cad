"""The loop guard's table: one for the daemon's life, with a number for each process that writes into it.

A worker that ends in order clears its slots; for one that was killed the supervisor does, before the number is another's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from types import TracebackType
from typing import Self

from sp_proxy.relay.loop_guard import OWNERS, TABLE_BYTES, LoopGuard


class GuardTable:
    """Shared memory, and who is in it. Closed at the end of a ``with`` block."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sp-proxy-loop-guard")
        """What a worker inherits."""
        os.truncate(self.fd, TABLE_BYTES)
        self._numbers = cycle(OWNERS[:-1])
        self.owners: list[int] = []
        """Numbers of the processes that live."""
        self.guard = LoopGuard(os.dup(self.fd), OWNERS[-1])
        """The supervisor's own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    @contextmanager
    def enlisted(self) -> Iterator[int]:
        """A number for a process which lives within the block: behind it nothing of it is ours any more. There are more
        numbers than there can be processes.
        """
        owner = next(number for number in self._numbers if number not in self.owners)
        self.owners.append(owner)
        try:
            yield owner
        finally:
            self.guard.forget(owner)
            self.owners.remove(owner)
