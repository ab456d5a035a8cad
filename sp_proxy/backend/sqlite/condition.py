"""A query as SQL on ``exchanges e``: statements of constant pieces, every value a parameter."""

import json
import sqlite3
from functools import lru_cache
from typing import Any

from sp_proxy.backend.query.syntax import And, Match, Not, Or, Pattern, Query, Range, Span, Tag, Text, Trace
from sp_proxy.backend.sqlite import search

_COLUMNS = {"session": "session_id", "duration": "duration_ns", "time": "start_unix_ns"}
"""Of fields whose names differ."""
_MAX = 2**63 - 1

Condition = tuple[str, list[Any]]


def condition(query: Query, table: str = "") -> Condition:
    """The condition, and its parameters. ``table`` is the text index that a text search asks."""
    match query:
        case Match(field, pattern):
            return fits(f"e.{_COLUMNS.get(field, field)}", pattern)
        case Tag(name, pattern):
            sql, values = fits("value", pattern)
            return f"e.tagset IN (SELECT tagset FROM tags WHERE name = ? AND {sql})", [name, *values]  # noqa: S608
        case Range(field, low, high):
            return _between(f"e.{_COLUMNS.get(field, field)}", low, high)
        case Trace(trace_id):
            return "e.id IN (SELECT id FROM spans WHERE trace_id = ?)", [trace_id]
        case Span(span_id):
            return "e.id IN (SELECT id FROM spans WHERE span_id = ?)", [span_id]
        case Text(words):
            assert table
            return f"e.id IN (SELECT rowid FROM {table} WHERE {table} MATCH ?)", [search.expression(words)]  # noqa: S608
        case Not(part):
            sql, values = condition(part, table)
            return f"NOT ({sql})", values
        case And(parts):
            return _joined(" AND ", "1", [condition(part, table) for part in parts])
        case Or(parts):
            return _joined(" OR ", "0", [condition(part, table) for part in parts])


def fits(column: str, pattern: Pattern) -> Condition:
    """A column has a value of this shape. Not GLOB nor LIKE: they end at a NUL, and have more wildcards than ours."""
    if pattern.exact is not None:
        return f"{column} = ?", [pattern.exact]
    if pattern.prefix is not None:
        return f"instr({column}, ?) = 1", [pattern.prefix]
    if pattern.part is not None:
        return f"instr({column}, ?) > 0", [pattern.part]
    return f"sp_fits({column}, ?)", [json.dumps(pattern.pieces)]


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the function for patterns that SQL has no means for."""
    connection.create_function("sp_fits", 2, _sp_fits, deterministic=True)


def _sp_fits(value: str, pieces: str) -> bool:
    return _compiled(pieces).fullmatch(value) is not None


@lru_cache(maxsize=64)
def _compiled(pieces: str) -> Any:
    return Pattern(tuple(json.loads(pieces))).regex()


def _between(column: str, low: int | None, high: int | None) -> Condition:
    if low is not None and low > _MAX:
        return "0", []
    parts: list[Condition] = []
    if low is not None:
        parts.append((f"{column} >= ?", [low]))
    if high is not None:
        parts.append((f"{column} <= ?", [min(high, _MAX)]))
    return _joined(" AND ", "1", parts)


def _joined(operator: str, empty: str, parts: list[Condition]) -> Condition:
    if not parts:
        return empty, []
    return operator.join(f"({sql})" for sql, _ in parts), [value for _, values in parts for value in values]
