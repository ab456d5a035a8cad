"""How many lines of a kind a log may get. Pure: the caller brings the time.

A fault that comes with every connection must not fill a disk, nor take the time that traffic needs. The first lines of a kind
are the ones that tell; after them one a second says how many there were in between.
"""

from sp_proxy.core.rate_limit import TokenBucket

BURST = 100
"""Lines of a kind at once: more than 64 workers write when they start."""
RATE = 1.0
"""Lines of a kind a second, after that."""
MAX_KINDS = 500
"""Kinds told apart; there are some hundred. Foreign ones beyond it share what one may have."""


class LogLimit:
    """Counts lines by kind."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._kinds: dict[str, TokenBucket] = {}
        self._suppressed: dict[str, int] = {}

    def count(self, kind: str, now_ns: int) -> int | None:
        """One line: how many of its kind were left out since the last one, or None when this one is left out too."""
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = ""
        bucket = self._kinds.get(kind)
        if bucket is None:
            bucket = self._kinds[kind] = TokenBucket(self._rate, self._burst)
        if not bucket.has(now_ns):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        bucket.take(1)
        return self._suppressed.pop(kind, 0)
