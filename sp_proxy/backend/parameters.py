"""Query parameters of the API (pure): read strictly, so that a misspelt filter is an error and not a wider answer."""

import re
import sys
from collections.abc import Iterable

from msgspec import Struct

from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.query.parse import QueryError, parse
from sp_proxy.backend.query.syntax import Match, Query, Range, StringField, Trace, all_of, containing, exactly
from sp_proxy.backend.query.values import time

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
FILTERS = ("q", "service", "direction", "method", "host", "path", "status", "session", "trace")
_EXACT: tuple[StringField, ...] = ("service", "direction", "method", "host", "session")
LOG_FILTERS = ("trace", "span", "service", "severity")
SEVERITIES = ("trace", "debug", "info", "warn", "error", "fatal")
"""OTLP's, of four numbers each, the first beginning with 1."""
_DIRECTIONS = ("inbound", "outbound", "unknown")
_STATUS = re.compile(r"([1-5])xx|0|[1-9][0-9]{2}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
"""As JSON writes an integer."""
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


def query_of(values: dict[str, str], now_unix_ns: int) -> Query:
    """What is asked for: ``q`` in the query language, and single values beside it, all of which must hold.

    The single values are taken as they are: a program need not quote them. One that is empty does not filter.
    """
    parts: list[Query] = []
    if values.get("q"):
        try:
            parts.append(parse(values["q"], now_unix_ns=now_unix_ns))
        except QueryError as error:
            raise ParameterError(f"q: {error}") from error
    direction = values.get("direction", "")
    if direction and direction not in _DIRECTIONS:
        raise _wrong("direction", direction, " or ".join(_DIRECTIONS))
    method = values.get("method", "")
    if method and not _METHOD.fullmatch(method):
        raise _wrong("method", method, "a request method, for example GET")
    parts += [Match(field, exactly(values[field])) for field in _EXACT if values.get(field)]
    if values.get("path"):
        parts.append(Match("path", containing(values["path"])))
    if values.get("status"):
        parts.append(Range("status", *_status_range(values["status"])))
    if values.get("trace"):
        parts.append(Trace(hex_id("trace", values["trace"], 16)))
    return all_of(*parts)


def log_filter(values: dict[str, str]) -> LogFilter:
    """Which log records: ``severity`` is the least severe that is wanted, as a word of OTLP's."""
    severity = values.get("severity", "").lower()
    if severity and severity not in SEVERITIES:
        raise _wrong("severity", values["severity"], " or ".join(SEVERITIES))
    return LogFilter(
        trace_id=hex_id("trace", values["trace"], 16) if values.get("trace") else b"",
        span_id=hex_id("span", values["span"], 8) if values.get("span") else b"",
        service=values.get("service", ""),
        severity_min=1 + 4 * SEVERITIES.index(severity) if severity else 0,
    )


def time_range(values: dict[str, str], now_unix_ns: int) -> tuple[int, int]:
    """``since`` (an hour ago, if not given) and ``until`` (now), written as times in the query language."""
    ends = []
    for name, default, end in (("since", "-1h", 0), ("until", "-0s", 1)):
        value = values.get(name, "") or default
        try:
            ends.append(time(value, now_unix_ns)[end])
        except ValueError as error:
            raise _wrong(name, value, str(error)) from error
    if ends[0] > ends[1]:
        raise ParameterError("since: later than until")
    return ends[0], ends[1]


def paging(values: dict[str, str]) -> Paging:
    """``before`` and ``limit``."""
    limit = values.get("limit", str(DEFAULT_LIMIT))
    if not (_NUMBER.fullmatch(limit) and int(limit) <= MAX_LIMIT):
        raise _wrong("limit", limit, f"1 to {MAX_LIMIT}")
    return Paging(before=values.get("before", ""), limit=int(limit))


def export_limit(values: dict[str, str]) -> int:
    """``limit`` of an export: all, unless it is given."""
    if "limit" not in values:
        return sys.maxsize
    limit = values["limit"]
    if not _NUMBER.fullmatch(limit):
        raise _wrong("limit", limit, "a number from 1")
    return int(limit)


def hex_id(name: str, value: str, size: int) -> bytes:
    """A trace id (16 bytes) or span id (8 bytes), from hex of either case."""
    if len(value) != 2 * size or not re.fullmatch(r"[0-9a-fA-F]*", value, re.ASCII):
        raise _wrong(name, value, f"{2 * size} hex digits")
    return bytes.fromhex(value)


def _status_range(value: str) -> tuple[int, int]:
    match = _STATUS.fullmatch(value)
    if not match:
        raise _wrong("status", value, "a status (200), a class (5xx), or 0 for exchanges without a response")
    if match[1]:
        return int(match[1]) * 100, int(match[1]) * 100 + 99
    return int(value), int(value)


def _wrong(name: str, value: str, allowed: str) -> ParameterError:
    return ParameterError(f"{name}: {value[:64]!r} is not allowed; allowed: {allowed}")
