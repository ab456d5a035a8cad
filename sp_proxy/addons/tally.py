"""What is counted of an addon, and the metrics that it emits itself: bounded, for names and labels are foreign."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from sp_proxy.addons.wire import Done, Labels

MAX_SERIES: Final = 1000
"""Of an addon; what goes beyond is counted in ``series_lost``."""


Mask = Callable[[str, str], str]
"""From the name and value of a label to what may be shown."""


class Series(Struct):
    """One metric with its labels."""

    amount: float = 0.0
    observations: int = 0
    """0: a counter."""


class AddonStats(Struct, frozen=True):
    """A snapshot of one addon; counts are records."""

    name: str
    state: str
    """``ready``, ``waiting`` (no process yet), or ``paused`` after failures."""
    called: int
    failed: int
    skipped: int
    dropped: int
    added: int
    restarts: int
    """Processes that were lost."""
    seconds: float
    series: dict[tuple[str, Labels], Series]
    series_lost: int
    last_problem: str


class Tally:
    """The counters of one addon."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.called = 0
        self.failed = 0
        self.skipped = 0
        self.dropped = 0
        self.added = 0
        self.restarts = 0
        self.seconds = 0.0
        self.last_problem = ""
        self.series: dict[tuple[str, Labels], Series] = {}
        self.series_lost = 0

    def add(self, done: Done, called: int, mask: Mask) -> None:
        """One task's answer. What labels say may have been captured, and is masked."""
        self.called += called
        self.failed += len(done.failed)
        self.skipped += len(done.skipped)
        self.seconds += max(0.0, done.seconds)
        for each in done.emitted:
            key = (each.name, tuple((name, mask(name, value)) for name, value in each.labels))
            series = self.series.get(key)
            if series is None:
                if len(self.series) >= MAX_SERIES:
                    self.series_lost += 1
                    continue
                series = self.series[key] = Series()
            if each.amount >= 0:
                series.amount += each.amount
                series.observations += max(0, each.observations)

    def stats(self, state: str) -> AddonStats:
        """A snapshot."""
        return AddonStats(
            self.name,
            state,
            self.called,
            self.failed,
            self.skipped,
            self.dropped,
            self.added,
            self.restarts,
            self.seconds,
            dict(self.series),
            self.series_lost,
            self.last_problem,
        )
