"""Limits on how often something is done. Pure: the caller brings the time."""


class Sparing:
    """Says when a repeated event is worth a line in the log: the first time, then at most once an interval."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = float("-inf")
        self._count = 0

    def count(self, now: float, events: int = 1) -> int | None:
        """Count events; how many there were since the last line when it is time for a line, else None."""
        self._count += events
        if now < self._next:
            return None
        self._next = now + self._interval
        total, self._count = self._count, 0
        return total
