"""The spool: a durable sending queue on disk (``spool_files.py`` has its layout and why it is not SQLite).

Append, lease, ack, release, evict. All bookkeeping is done in trio's thread, all work on the disk in another, and what is
lost is told to ``on_lost`` in the same step in which the spool forgets it, so the books balance at any moment.
An entry is removed after it is decided, never before; a crash in between sends it again, so duplicates are possible and
losses are not. It is made when it is first needed, or opened at once where an earlier life has left one.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from sp_proxy.core.spool_index import Entry, SpoolIndex, SpoolLimits
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.spool_files import HEAD_BYTES, DamagedError, SpoolFiles
from sp_proxy.exporter.spool_owner import SpoolError
from sp_proxy.exporter.stats import DropReason

THREADS = 2
"""One that stores, one that reads; a disk that hangs takes no more threads than these."""


class SpoolFullError(SpoolError):
    """An entry does not fit, whatever is evicted."""


class Spool:
    """A directory of entries, owned by this process from ``open`` to ``close``."""

    def __init__(
        self,
        files: SpoolFiles,
        limits: SpoolLimits,
        *,
        clock: Callable[[], float],
        on_recovered: Callable[[int], None],
        on_lost: Callable[[DropReason, int], None],
        steady: Callable[[], float] = trio.current_time,
    ) -> None:
        """``clock`` tells unix time, ``steady`` a time that only goes forward; ``on_recovered`` hears how many records an
        earlier life has left.
        """
        self.index = SpoolIndex(limits)
        self.damaged = 0
        """Files set aside in this life."""
        self._files = files
        self._clock = clock
        self._steady = steady
        self._on_recovered = on_recovered
        self._on_lost = on_lost
        self._threads = trio.CapacityLimiter(THREADS)
        self._opening = trio.Lock()
        self._removed: list[Entry] = []

    def limit(self, limits: SpoolLimits, *, fsync: bool) -> None:
        """Other limits from now on; the next ``tidy`` evicts what is above them."""
        self.index.limit(limits)
        self._files.fsync = fsync

    @property
    def is_open(self) -> bool:
        """It belongs to this process."""
        return self._files.is_open

    @property
    def exists(self) -> bool:
        """An earlier life has left a directory."""
        try:
            return self._files.directory.is_dir()
        except OSError:  # a folder above may not be looked into, which ``open`` says when there is a need
            return False

    async def open(self) -> None:
        """Take the directory and what is in it. Again is the same as once. Raises SpoolError."""
        async with self._opening:
            if self._files.is_open:
                return
            found = await trio.to_thread.run_sync(self._files.open, limiter=self._threads)
            self.damaged += len(found.foreign)
            for entry in found.entries:
                # Stored in the future, by a clock that was wrong then or is now: it is new.
                self.index.add(entry, self._steady() - max(self._clock() - entry.created_unix, 0.0))
            self._on_recovered(self.index.records)
        await self.tidy()

    async def append(self, payload: Payload, *, leased: bool = False) -> Entry:
        """Store a payload; the oldest entries make room for it. Raises SpoolError and OSError, then it is not stored."""
        await self.open()
        size = HEAD_BYTES + len(payload.body)
        evicted = self.index.to_evict(size)
        if evicted is None:
            raise SpoolFullError(f"spool {self._files.directory}: {size} bytes do not fit")
        self._lose(evicted, "evicted")
        await self.tidy()
        entry = Entry(self.index.next_sequence(), payload.records, size, round(max(self._clock(), 0.0), 3))
        await trio.to_thread.run_sync(self._files.write, entry, payload, limiter=self._threads)
        self.index.add(entry, self._steady(), leased=leased)
        return entry

    async def lease(self) -> tuple[Entry, Payload] | None:
        """The oldest entry that is not leased, with its content; None when there is none. Raises OSError.

        Damaged ones on the way are set aside and counted.
        """
        while (entry := self.index.lease()) is not None:
            try:
                payload = await trio.to_thread.run_sync(self._files.read, entry, limiter=self._threads)
            except DamagedError:
                self.damaged += 1
                self.index.remove(entry)
                self._on_lost("damaged", entry.records)
                await trio.to_thread.run_sync(self._files.set_aside, entry, limiter=self._threads)
            except BaseException:
                self.index.release(entry)
                raise
            else:
                return entry, payload
        return None

    def ack(self, entry: Entry) -> None:
        """Decided: forget it. Its file goes with the next ``tidy``."""
        self.index.remove(entry)
        self._removed.append(entry)

    def release(self, entry: Entry, *, later: bool = False) -> None:
        """Give it back: the next one to be leased, or (``later``) the last."""
        self.index.release(entry, later=later)

    async def tidy(self) -> None:
        """Lose what is too old or, after a change of the settings, too much; delete the files of what is forgotten.

        Never raises for the disk: what could not be deleted is tried again, and would be sent again after a restart.
        """
        self._lose(self.index.expired(self._steady()), "evicted")
        self._lose(self.index.to_evict(0, 0) or [], "evicted")
        if self._removed and self._files.is_open:
            removed = tuple(self._removed)
            gone = await trio.to_thread.run_sync(partial(_remove, self._files, removed), limiter=self._threads)
            self._removed = [entry for entry in self._removed if entry.sequence not in gone]

    async def close(self) -> None:
        """Delete what is decided and leave the directory; what it holds stays in ``index``, for the last look."""
        try:
            await self.tidy()
        finally:
            self._files.close()

    def _lose(self, entries: list[Entry], reason: DropReason) -> None:
        for entry in entries:
            self.ack(entry)
            self._on_lost(reason, entry.records)


def _remove(files: SpoolFiles, entries: Sequence[Entry]) -> set[int]:
    """Delete files; the numbers of those that are gone."""
    gone = set()
    for entry in entries:
        with suppress(OSError):
            files.remove(entry)
            gone.add(entry.sequence)
    return gone
