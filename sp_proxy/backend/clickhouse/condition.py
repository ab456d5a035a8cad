"""A query as SQL on the table of spans: statements of constant pieces, every value a bound parameter.

The values go to the server beside the statement (``{p0:String}``), never into it.
"""

import re
from typing import Any

from sp_proxy.backend.query.syntax import (
    HIGHEST,
    And,
    Match,
    Not,
    Or,
    Pattern,
    Query,
    Range,
    Span,
    Tag,
    Text,
    Trace,
    Word,
)

_COLUMNS = {"session": "session_id", "duration": "duration_ns", "time": "start_unix_ns"}
"""Of fields whose names differ."""
_NO_LETTER = r"[\x00-/:-`{-\x7f]"
"""What separates words in a folded text: the ASCII characters but digits and small letters."""


class Parameters:
    """The values of one statement, and their names."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def bind(self, value: Any, kind: str) -> str:
        """Where the statement has this value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"


def condition(query: Query, bound: Parameters) -> str:
    """The condition; its values are bound."""
    match query:
        case Match(field, pattern):
            return fits(_COLUMNS.get(field, field), pattern, bound)
        case Tag(name, pattern):
            key = bound.bind(name, "String")
            return f"mapContains(tags, {key}) AND {fits(f'tags[{key}]', pattern, bound)}"
        case Range(field, low, high):
            return _between(_COLUMNS.get(field, field), low, high, bound)
        case Trace(trace_id):
            return f"trace_id = {bound.bind(trace_id.hex(), 'String')}"
        case Span(span_id):
            return f"span_id = {bound.bind(span_id.hex(), 'String')}"
        case Text(words):
            return " AND ".join(_word(word, bound) for word in words)
        case Not(part):
            return f"NOT ({condition(part, bound)})"
        case And(parts):
            return " AND ".join(f"({condition(part, bound)})" for part in parts) or "1"
        case Or(parts):
            return " OR ".join(f"({condition(part, bound)})" for part in parts) or "0"


def fits(column: str, pattern: Pattern, bound: Parameters) -> str:
    """A column has a value of this shape."""
    if pattern.exact is not None:
        return f"{column} = {bound.bind(pattern.exact, 'String')}"
    if pattern.prefix is not None:
        return f"startsWith({column}, {bound.bind(pattern.prefix, 'String')})"
    if pattern.part is not None:
        return f"position({column}, {bound.bind(pattern.part, 'String')}) > 0"
    wild = {"*": ".*", "?": "."}
    pieces = [wild[piece] if place % 2 else _literal(piece) for place, piece in enumerate(pattern.pieces)]
    return f"match({column}, {bound.bind(f'(?s)^{"".join(pieces)}$', 'String')})"


def _literal(text: str) -> str:
    """For RE2, which would end the expression at a NUL."""
    return re.escape(text).replace("\x00", r"\x00")


def _word(word: Word, bound: Parameters) -> str:
    if not word.prefix:
        return f"hasToken(text, {bound.bind(word.text, 'String')})"
    # The first condition is quick; the second knows where a word begins.
    begins = f"(^|{_NO_LETTER}){_literal(word.text)}"
    return f"(position(text, {bound.bind(word.text, 'String')}) > 0 AND match(text, {bound.bind(begins, 'String')}))"


def _between(column: str, low: int | None, high: int | None, bound: Parameters) -> str:
    if low is not None and low > HIGHEST:
        return "0"
    parts = [f"{column} >= {bound.bind(low, 'Int64')}"] if low is not None else []
    if high is not None:
        parts.append(f"{column} <= {bound.bind(min(high, HIGHEST), 'Int64')}")
    return " AND ".join(parts) or "1"
