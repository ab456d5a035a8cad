"""What is in a spool, in which order, and what must go: the spool's bookkeeping, without its files.

Invariant: an entry is waiting or leased until it is removed, and ``records`` and ``size`` are the sums over all of them.
A leased entry is never evicted and never expires: it is in somebody's hands.

Ages are told by a clock that only goes forward: a wall clock that is set right, as on a machine that starts without one,
must not make everything too old at once.
"""

from collections import OrderedDict

from msgspec import Struct


class Entry(Struct, frozen=True, gc=False):
    """One payload in the spool; its content is on disk."""

    sequence: int
    """Position: entries are numbered in the order in which they were stored."""
    records: int
    size: int
    """Bytes on disk."""
    created_unix: float


class SpoolLimits(Struct, frozen=True):
    """What a spool holds at most."""

    max_bytes: int
    max_age: float
    """Seconds."""
    max_entries: int = 200_000
    """Each costs some 200 bytes of memory and an inode: a batch a second for two days."""


class SpoolIndex:
    """Entries, oldest first."""

    def __init__(self, limits: SpoolLimits) -> None:
        self._limits = limits
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._waiting: OrderedDict[int, Entry] = OrderedDict()
        self._since: dict[int, float] = {}
        self._next = 1
        self.records = 0
        """Records in it, leased ones included."""
        self.waiting_records = 0
        """Records of it that are not leased."""
        self.size = 0
        """Bytes on disk, leased entries included."""

    def limit(self, limits: SpoolLimits) -> None:
        """Other limits from now on: ``expired`` and ``to_evict`` say what must go."""
        self._limits = limits

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """Entries that are not leased."""
        return len(self._waiting)

    @property
    def oldest_unix(self) -> float | None:
        """When the oldest entry was stored; None when there is none."""
        return next(iter(self._entries.values())).created_unix if self._entries else None

    def next_sequence(self) -> int:
        """A number above all that were seen."""
        sequence = self._next
        self._next += 1
        return sequence

    def add(self, entry: Entry, since: float, *, leased: bool = False) -> None:
        """An entry is on disk, since this time of a clock that only goes forward. Numbers must grow from call to call."""
        assert entry.sequence not in self._entries
        self._next = max(self._next, entry.sequence + 1)
        self._entries[entry.sequence] = entry
        self._since[entry.sequence] = since
        self.records += entry.records
        self.size += entry.size
        if not leased:
            self._wait(entry, later=True)

    def lease(self) -> Entry | None:
        """The first entry that is not leased."""
        if not self._waiting:
            return None
        _, entry = self._waiting.popitem(last=False)
        self.waiting_records -= entry.records
        return entry

    def release(self, entry: Entry, *, later: bool = False) -> None:
        """Give a leased entry back: to be the next one, or (``later``) after all others."""
        assert entry.sequence in self._entries
        assert entry.sequence not in self._waiting
        self._wait(entry, later=later)

    def remove(self, entry: Entry) -> None:
        """Forget an entry, leased or not."""
        del self._entries[entry.sequence], self._since[entry.sequence]
        self.records -= entry.records
        self.size -= entry.size
        if self._waiting.pop(entry.sequence, None) is not None:
            self.waiting_records -= entry.records

    def expired(self, now: float) -> list[Entry]:
        """What is above the age limit by the clock of ``add``, leased entries left out. The first that is not ends the search."""
        old: list[Entry] = []
        for entry in self._entries.values():
            if now - self._since[entry.sequence] <= self._limits.max_age:
                break
            if entry.sequence in self._waiting:
                old.append(entry)
        return old

    def to_evict(self, size: int = 0, entries: int = 1) -> list[Entry] | None:
        """What must go, oldest first, so that as much as said fits; None when it cannot fit."""
        room = self._limits.max_bytes - self.size
        places = self._limits.max_entries - len(self._entries)
        evicted: list[Entry] = []
        if room >= size and places >= entries:
            return evicted
        for entry in self._entries.values():
            if entry.sequence not in self._waiting:
                continue
            evicted.append(entry)
            room += entry.size
            places += 1
            if room >= size and places >= entries:
                return evicted
        return None

    def _wait(self, entry: Entry, *, later: bool) -> None:
        self._waiting[entry.sequence] = entry
        self.waiting_records += entry.records
        if not later:
            self._waiting.move_to_end(entry.sequence, last=False)
