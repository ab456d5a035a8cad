"""A circuit breaker: a destination that keeps failing is left alone, then asked by one probe. Pure: time is passed in.

closed -- ``threshold`` failures in a row --> open -- the wait is over --> half open -- the probe works --> closed
                                              ^                                    |
                                              +------ the probe fails, the wait grows +

Failures are those which may pass (connection errors, timeouts, 429, 502, 503, 504). An answer that refuses one payload
for good shows that the destination works.
"""

from typing import Literal

from msgspec import Struct

State = Literal["closed", "open", "half_open"]

THRESHOLD = 5
"""Failures in a row that open it (Envoy's ``consecutive_5xx``)."""
PROBE_LOST = 60.0
"""Seconds after which a probe that said nothing is given up, so that another may go: no attempt takes that long."""


class BreakerPolicy(Struct, frozen=True):
    """When to leave a destination alone, and for how long, in seconds."""

    initial_interval: float
    max_interval: float
    multiplier: float = 2.0
    threshold: int = THRESHOLD


class Breaker:
    """The state of one destination."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._interval = policy.initial_interval
        self._until = float("-inf")
        self._probe_until = float("-inf")
        self.state: State = "closed"
        self.opened = 0
        """How often it went from closed to open."""

    def wait(self, now: float) -> float:
        """Seconds until an attempt may be made; 0 is leave to make it, and takes the place of the probe."""
        if self.state == "closed":
            return 0.0
        if self.state == "open":
            if now < self._until:
                return self._until - now
            self.state = "half_open"
        elif now < self._probe_until:
            return self._probe_until - now
        self._probe_until = now + PROBE_LOST
        return 0.0

    def lost_probe(self) -> None:
        """The probe ended without an answer, for a reason of our own: another one may go at once."""
        self._probe_until = float("-inf")

    def succeeded(self) -> None:
        """The destination answered, whatever it said about the payload."""
        self.state = "closed"
        self._failures = 0
        self._interval = self._policy.initial_interval

    def failed(self, now: float) -> None:
        """An attempt failed in a way that may pass."""
        self._failures += 1
        if self.state == "closed":
            if self._failures >= self._policy.threshold:
                self.opened += 1
                self._open(now)
        elif self.state == "half_open":
            self._interval = min(self._interval * self._policy.multiplier, self._policy.max_interval)
            self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self._until = now + min(self._interval, self._policy.max_interval)
