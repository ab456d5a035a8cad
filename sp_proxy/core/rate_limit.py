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


class TokenBucket:
    """At most ``rate`` tokens a second on average, and ``burst`` at once after a quiet time.

    Whoever finds a token may take more than there are, and leaves a debt: what costs more than a whole burst gets
    through at times, and the average holds.
    """

    def __init__(self, rate: float, burst: float) -> None:
        """``rate`` in tokens a second. The bucket is full at first."""
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_ns = -1

    def has(self, now_ns: int) -> bool:
        """Whether there is a token. Time that goes backwards, as a wall clock may, fills nothing."""
        if now_ns > self._filled_ns:
            if self._filled_ns >= 0:
                self._tokens = min(self._burst, self._tokens + (now_ns - self._filled_ns) * self._rate / 1e9)
            self._filled_ns = now_ns
        elif now_ns < self._filled_ns - 1_000_000_000:
            self._filled_ns = now_ns  # the clock was set back: go on from there
        return self._tokens > 0

    def take(self, tokens: float) -> None:
        """Take tokens after ``has`` has said that there is one."""
        self._tokens -= tokens
