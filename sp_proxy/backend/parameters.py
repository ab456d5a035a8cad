"""Query parameters of the API (pure): read strictly, so that a misspelt filter is an error and not a wider answer."""

import re
from collections.abc import Iterable

from msgspec import Struct

from sp_proxy.backend.model import ExchangeFilter

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
FILTERS = ("service", "direction", "method", "host", "path", "status", "session", "trace")
_DIRECTIONS = ("inbound", "outbound", "unknown")
_STATUS = re.compile(r"([1-5])xx|0|[1-9][0-9]{2}", re.ASCII)
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""A token (RFC 9110 section 5.6.2)."""


class ParameterError(ValueError):
    """A wrong parameter: one line that names it and what is allowed."""


class Paging(Struct, frozen=True):
    """Where a page begins (empty: at the newest) and how long it is."""

    before: str
    limit: int


def single(pairs: Iterable[tuple[str, str]], allowed: tuple[str, ...]) -> dict[str, str]:
    """Parameters by name; each known, and given once."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise ParameterError(f"{name[:64]!r} is not a parameter of this address; allowed: {known}")
        if name in values:
            raise ParameterError(f"{name}: given more than once; allowed: one value")
        values[name] = value
    return values


def exchange_filter(values: dict[str, str]) -> ExchangeFilter:
    """The filter in the parameters; one that is absent or empty does not filter."""
    direction = values.get("direction", "")
    if direction and direction not in _DIRECTIONS:
        raise _wrong("direction", direction, " or ".join(_DIRECTIONS))
    method = values.get("method", "")
    if method and not _METHOD.fullmatch(method):
        raise _wrong("method", method, "a request method, for example GET")
    low, high = _status_range(values.get("status", ""))
    trace = values.get("trace", "")
    return ExchangeFilter(
        service=values.get("service", ""),
        direction=direction,
        method=method,
        host=values.get("host", ""),
        path=values.get("path", ""),
        status_min=low,
        status_max=high,
        session=values.get("session", ""),
        trace=hex_id("trace", trace, 16).hex() if trace else "",
    )


def paging(values: dict[str, str]) -> Paging:
    """``before`` and ``limit``."""
    limit = values.get("limit", "")
    if not limit:
        return Paging(before=values.get("before", ""), limit=DEFAULT_LIMIT)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= MAX_LIMIT):
        raise _wrong("limit", limit, f"1 to {MAX_LIMIT}")
    return Paging(before=values.get("before", ""), limit=int(limit))


def hex_id(name: str, value: str, size: int) -> bytes:
    """A trace id (16 bytes) or span id (8 bytes), from hex of either case."""
    if len(value) != 2 * size or not re.fullmatch(r"[0-9a-fA-F]*", value, re.ASCII):
        raise _wrong(name, value, f"{2 * size} hex digits")
    return bytes.fromhex(value)


def _status_range(value: str) -> tuple[int, int]:
    if not value:
        return -1, -1
    match = _STATUS.fullmatch(value)
    if not match:
        raise _wrong("status", value, "a status (200), a class (5xx), or 0 for exchanges without a response")
    if match[1]:
        return int(match[1]) * 100, int(match[1]) * 100 + 99
    return int(value), int(value)


def _wrong(name: str, value: str, allowed: str) -> ParameterError:
    return ParameterError(f"{name}: {value[:64]!r} is not allowed; allowed: {allowed}")
