"""The values that fields of a query take (pure): statuses, durations, sizes, times. Each becomes a range of numbers.

A range is ``(low, high)``, inclusive. Raises ``ValueError`` with what is allowed, to be put behind the field's name.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sp_proxy.backend.query.syntax import HIGHEST

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_BYTES = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1 << 10,
    "MB": 10**6,
    "MiB": 1 << 20,
    "GB": 10**9,
    "GiB": 1 << 30,
}
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([A-Za-zµ]*)")
_STATUS_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000

Span = tuple[int, int]


def status(value: str) -> Span:
    """``404``, ``5xx``, or ``none`` for exchanges without a response, which have the status 0."""
    found = _STATUS_CLASS.fullmatch(value)
    if found:
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    if value.lower() == "none":
        return 0, 0
    if not (value.isascii() and value.isdigit() and len(value) <= 3):
        raise ValueError("a status (404), a class (5xx), or none")
    return int(value), int(value)


def duration(value: str) -> Span:
    """``200ms``, ``1.5s``, ``2m``: a unit is required."""
    return _quantity(value, _NANOSECONDS, "a number with a unit: 200ms, 1.5s, 2m")


def size(value: str) -> Span:
    """``512``, ``10KiB``, ``1.5MB``."""
    return _quantity(value, _BYTES, "bytes: 512, 10KiB, 1.5MB")


def time(value: str, now_unix_ns: int) -> Span:
    """A date, a moment (RFC 3339; without an offset UTC), ``-15m`` for so long ago, or nanoseconds since 1970 (``17ns``).

    A date is its whole day, a moment as long as its last digit says: ``10:30`` is a minute.
    """
    allowed = "a date or moment in UTC (2026-01-31T10:30), or a time ago (-15m, -2h, -1d)"
    if value.startswith("-"):
        ago, _ = _quantity(value[1:], _NANOSECONDS, allowed)
        return (moment := max(0, now_unix_ns - ago)), moment
    if value.endswith("ns") and value[:-2].isascii() and value[:-2].isdigit() and len(value) < 22:
        moment = min(int(value[:-2]), HIGHEST)
        return moment, moment
    found = _MOMENT.fullmatch(value)
    if not found:
        raise ValueError(allowed)
    day, minute, second, fraction, offset = found.groups()
    zone = (offset or "Z").upper().replace("Z", "+00:00")
    try:
        parsed = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}{zone}")
    except ValueError as error:
        raise ValueError(allowed) from error
    start = (parsed - _EPOCH) // timedelta(seconds=1) * _SECOND
    length = 86_400 * _SECOND if not minute else 60 * _SECOND if not second else _SECOND
    if fraction:
        start += int(fraction.ljust(9, "0"))
        length = 10 ** (9 - len(fraction))
    if not 0 <= start <= HIGHEST - length:
        raise ValueError("a time between 1970 and 2262")
    return start, start + length - 1


def _quantity(value: str, units: dict[str, int], allowed: str) -> Span:
    found = _QUANTITY.fullmatch(value)
    if not found or found[2] not in units:
        raise ValueError(allowed)
    number = min(int(Decimal(found[1]) * units[found[2]]), HIGHEST)
    return number, number
