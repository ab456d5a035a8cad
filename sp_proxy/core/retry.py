"""When to try again: exponential backoff with jitter, and what a server's ``Retry-After`` asks for. Pure: time and
randomness are passed in.

The words and the rules are those of the OpenTelemetry Collector's ``retry_on_failure``: the wait grows by
``multiplier`` up to ``max_interval``, each wait is randomised around it, a longer wait asked for by the server wins,
and an attempt that would start after ``max_elapsed_time`` is not made.
"""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from msgspec import Struct

MIN_INTERVAL = 0.01
"""Seconds. An ``initial_interval`` of zero must not become a busy loop against a backend which is down."""
MAX_RETRY_AFTER = 3600.0
"""Seconds. A server that asks for longer is asked again after this: a typing mistake there must not end delivery."""

_DELAY_SECONDS = re.compile(r"[0-9]{1,15}", re.ASCII)


class RetryPolicy(Struct, frozen=True):
    """How to wait between attempts; all times in seconds."""

    initial_interval: float
    max_interval: float
    multiplier: float
    randomization_factor: float
    max_elapsed_time: float
    """Counted from the first attempt; 0 means for ever."""


class Backoff:
    """The waits of one payload, from its first attempt on."""

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self._policy = policy
        self._started = now
        self._interval = max(policy.initial_interval, MIN_INTERVAL)

    def next_wait(self, now: float, randomness: float, after: float | None = None) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        ``randomness`` is uniform in 0 to 1; ``after`` is the wait that the server asked for.
        """
        policy = self._policy
        interval = min(self._interval, max(policy.max_interval, MIN_INTERVAL))
        self._interval = min(interval * policy.multiplier, max(policy.max_interval, MIN_INTERVAL))
        wait = max(interval * (1 + policy.randomization_factor * (2 * randomness - 1)), MIN_INTERVAL)
        if after is not None:
            wait = max(wait, after)
        if policy.max_elapsed_time and now + wait - self._started > policy.max_elapsed_time:
            return None
        return wait


def parse_retry_after(value: str, now_unix: float) -> float | None:
    """Seconds asked for by a ``Retry-After`` field (RFC 9110 section 10.2.3): a delay, or a date in any of the three
    forms of section 5.6.7. 0 for a date that has passed; None for what is neither.
    """
    value = value.strip()
    if _DELAY_SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # asctime form, and "-0000": GMT by RFC 9110
            date = date.replace(tzinfo=UTC)
        seconds = date.timestamp() - now_unix
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
