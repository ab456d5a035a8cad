"""Whether an exchange that has ended becomes a record: sampling, then rate limits. Cheap, as traffic goes on meanwhile.

Sampling is consistent: the last 56 bits of a trace id are its randomness (W3C Trace Context level 2, OpenTelemetry's
consistent probability sampling), and a trace is kept when they reach a threshold that the ratio alone decides. So every
hop with the same ratio decides the same, and one with a higher ratio keeps all that a lower one does.

What is refused is lost on purpose, and counted by reason in the worker's totals.
"""

import re
from typing import Final, Literal, Self

from msgspec import Struct

from sp_proxy.core.exchange import Direction
from sp_proxy.core.rate_limit import TokenBucket

Refusal = Literal["", "sampled_out", "rate_limit", "rule_rate_limit"]
"""Why an exchange is not kept, a metric label; empty when it is."""

_RANDOM_BITS: Final = 56
_RANDOM_FROM: Final = 32 - _RANDOM_BITS // 4


_GRPC_FAILURE: Final = re.compile(rb"(?:^|\n)grpc-status:[ \t]*0*[1-9]", re.IGNORECASE)


class RateConfig(Struct, frozen=True, array_like=True):
    """Limits by token buckets; a rate of 0 means none."""

    exchanges: float = 0.0
    """A second."""
    exchange_burst: float = 1.0
    bytes: float = 0.0
    """A second."""
    byte_burst: float = 1.0


class AdmissionConfig(Struct, frozen=True, array_like=True):
    """What one worker may capture."""

    limit: RateConfig = RateConfig()
    rule_limits: dict[str, RateConfig] = {}
    """By collection rule, named as in ``rules.Decision``: ``server[0]``."""
    sampling_ratio: float = 1.0
    keep_errors: bool = True
    keep_slower_than: float = 0.0
    """Seconds; 0 means never."""


class _Limit:
    """Two buckets, one of them for exchanges."""

    def __init__(self, config: RateConfig) -> None:
        self._exchanges = TokenBucket(config.exchanges, config.exchange_burst) if config.exchanges else None
        self._bytes = TokenBucket(config.bytes, config.byte_burst) if config.bytes else None

    def has(self, now_ns: int) -> bool:
        return (self._exchanges is None or self._exchanges.has(now_ns)) and (
            self._bytes is None or self._bytes.has(now_ns)
        )

    def take(self, size: int) -> None:
        if self._exchanges is not None:
            self._exchanges.take(1.0)
        if self._bytes is not None:
            self._bytes.take(size)


def has_failed(direction: Direction, status: int, response_fields: bytes, response_trailers: bytes) -> bool:
    """Whether an exchange that ended as its protocol says is an error: 5xx, outbound 4xx, no response, a gRPC status."""
    if status >= 500 or status == 0 or (status >= 400 and direction is Direction.OUTBOUND):
        return True
    return bool(_GRPC_FAILURE.search(response_trailers) or _GRPC_FAILURE.search(response_fields))


class Admission:
    """The decisions of one worker. One for all of its listeners, as limits are the worker's."""

    def __init__(self, config: AdmissionConfig) -> None:
        self._limit = _Limit(config.limit)
        self._rules = {rule: _Limit(limit) for rule, limit in config.rule_limits.items()}
        self._threshold = _threshold(config.sampling_ratio)
        self._keep_errors = config.keep_errors
        self._slow_ns = round(config.keep_slower_than * 1e9) or (1 << 63)

    def samples(self, trace_id: bytes) -> bool:
        """Whether a trace is kept, by its id in 32 lower-case hexadecimal digits."""
        return trace_id[_RANDOM_FROM:] >= self._threshold

    @classmethod
    def make(cls, config: AdmissionConfig) -> Self | None:
        """None when everything is admitted, so that nobody needs to ask."""
        limits = (config.limit, *config.rule_limits.values())
        limited = config.sampling_ratio < 1.0 or any(limit.exchanges or limit.bytes for limit in limits)
        return cls(config) if limited else None

    def refuse(self, trace_id: bytes, rule: str, *, failed: bool, duration_ns: int, size: int, now_ns: int) -> Refusal:
        """Why not to keep an exchange of ``size`` captured bytes; empty to keep it, and then the limits count it.

        Failed and slow ones are kept whatever their trace, by setting; the limits hold for them as well.
        """
        if (
            trace_id[_RANDOM_FROM:] < self._threshold
            and not (failed and self._keep_errors)
            and duration_ns < self._slow_ns
        ):
            return "sampled_out"
        limit = self._limit
        if not limit.has(now_ns):
            return "rate_limit"
        rule_limit = self._rules.get(rule)
        if rule_limit is not None:
            if not rule_limit.has(now_ns):
                return "rule_rate_limit"
            rule_limit.take(size)
        limit.take(size)
        return ""


def _threshold(ratio: float) -> bytes:
    """The least randomness that is kept, in hexadecimal digits: as texts of one length they compare as numbers do."""
    if ratio <= 0.0:
        return b"g"  # above every digit
    rejected = round((1.0 - ratio) * (1 << _RANDOM_BITS))
    return b"%0*x" % (_RANDOM_BITS // 4, min(rejected, (1 << _RANDOM_BITS) - 1))
