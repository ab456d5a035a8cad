"""Looks now and then for exchanges that have gone on for long, in all connections of a worker: one timer, and nothing to
do while bytes pass. A look at an idle connection takes a quarter of a microsecond.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

log = logging.getLogger(__name__)

LONGEST_INTERVAL = 5.0
"""Seconds between two looks; sooner when exchanges are recorded sooner."""
SHORTEST_INTERVAL = 0.1
AT_ONCE = 1000
"""Connections that are looked at before others get their turn."""
_LOGGED_FAULTS = 10


class LooksForOpen(Protocol):
    """A connection."""

    def record_open(self, before_ns: int) -> None:
        """As in ``taps.context.Tap``."""
        ...


def interval(after: float) -> float:
    """Seconds between two looks: an exchange is recorded at most a quarter later than it should be."""
    return min(max(after / 4, SHORTEST_INTERVAL), LONGEST_INTERVAL)


async def record_long(
    after: float, connections: Callable[[], Iterable[LooksForOpen]], counters: defaultdict[str, int]
) -> None:
    """Record what has gone on for ``after`` seconds, until cancelled. A fault costs this record, and is counted."""
    while True:
        await asyncio.sleep(interval(after))
        before_ns = time.time_ns() - round(after * 1e9)
        for number, connection in enumerate(list(connections()), 1):
            try:
                connection.record_open(before_ns)
            except Exception:
                counters["tap_faults"] += 1
                if counters["tap_faults"] <= _LOGGED_FAULTS:
                    log.exception("fault while recording an exchange that goes on")
            if not number % AT_ONCE:
                await asyncio.sleep(0)
