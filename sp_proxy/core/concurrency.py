"""How many uploads run side by side: additive increase, multiplicative decrease (RFC 5681 section 3.1; the signals are
those of Vector's adaptive request concurrency). Pure: latencies are passed in.

The limit grows by one for each round of attempts that all went well while it was used up, and shrinks at a sign of
overload: 429 or 503, an attempt that timed out, or latencies far above what is usual. One shrinking for one round, as
the answers to what was sent before it tell nothing new.
"""

from math import sqrt

INCREASE = 1.0
DECREASE = 0.7
"""TCP takes half; CUBIC (RFC 9438) 0.7, which keeps more of a limit that was nearly right."""
SMOOTHING = 0.2
"""Weight of the newest latency in the usual one (Vector's is 0.4, for far more requests)."""
TOLERANCE = 3.0
"""So many deviations above the usual latency are overload."""
SLACK_SECONDS = 0.05
"""Less than this above the usual latency never is: small differences of small numbers mean nothing."""


class ConcurrencyLimit:
    """The limit of one destination, between 1 and ``maximum``."""

    def __init__(self, maximum: int, initial: int = 4) -> None:
        self._maximum = float(maximum)
        self._limit = float(min(initial, maximum))
        self._usual = -1.0
        self._variance = 0.0
        self._round = 0
        self._busiest = 0
        self._hold = 0

    @property
    def value(self) -> int:
        """Uploads that may run side by side now."""
        return int(self._limit)

    def answered(self, seconds: float, in_flight: int) -> None:
        """An attempt ended well; ``in_flight`` counts it and those beside it when it ended."""
        slow = self._is_slow(seconds)
        self._learn(seconds)
        if slow:
            self._shrink()
            return
        self._round += 1
        self._hold -= 1
        self._busiest = max(self._busiest, in_flight)
        if self._round >= self.value:
            if self._busiest >= self.value and self._hold <= 0:
                self._limit = min(self._limit + INCREASE, self._maximum)
            self._round = self._busiest = 0

    def overloaded(self) -> None:
        """An attempt was answered 429 or 503, or not in time."""
        self._shrink()

    def _is_slow(self, seconds: float) -> bool:
        if self._usual < 0:
            return False
        return seconds > self._usual + max(TOLERANCE * sqrt(self._variance), SLACK_SECONDS)

    def _learn(self, seconds: float) -> None:
        if self._usual < 0:
            self._usual = seconds
            return
        difference = seconds - self._usual
        self._usual += SMOOTHING * difference
        self._variance = (1 - SMOOTHING) * (self._variance + SMOOTHING * difference * difference)

    def _shrink(self) -> None:
        self._round = self._busiest = 0
        self._hold -= 1
        if self._hold <= 0:
            self._hold = self.value
            self._limit = max(1.0, self._limit * DECREASE)
