"""What a query means, as values (pure). The parser makes them, the engines and the live updates read them.

Comparisons of numbers are ranges, inclusive at both ends, and ``!=`` is a ``Not``: an engine has seven kinds of node to
translate. ``text_of`` writes a node in the language again; what it writes means the same.
"""

import re
from typing import Literal

from msgspec import Struct

StringField = Literal["service", "direction", "method", "scheme", "host", "path", "session", "peer", "error"]
NumberField = Literal["status", "duration", "time", "request_size", "response_size"]

HIGHEST = 2**63 - 1
"""Of all numbers."""
_ESCAPED = re.compile(r'[\\*?"]')
_FOLDED_WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+")


class Pattern(Struct, frozen=True):
    """A glob over a whole value: literals with ``*`` (any text) and ``?`` (one character) between them."""

    pieces: tuple[str, ...]
    """Literals at even places, ``*`` or ``?`` at odd ones: ``/api/*`` is ``("/api/", "*", "")``."""

    @property
    def exact(self) -> str | None:
        """The one value that matches; None when there are wildcards."""
        return self.pieces[0] if len(self.pieces) == 1 else None

    @property
    def prefix(self) -> str | None:
        """The literal of ``literal*``; None for another shape."""
        return self.pieces[0] if self.pieces[1:] == ("*", "") else None

    @property
    def part(self) -> str | None:
        """The literal of ``*literal*``; None for another shape."""
        return (
            self.pieces[2]
            if len(self.pieces) == 5 and self.pieces[:2] + self.pieces[3:] == ("", "*", "*", "")
            else None
        )

    def regex(self) -> re.Pattern[str]:
        """The same as a regular expression, for ``fullmatch``.

        Between two stars stands what has one length, so its first place is as good as any: an atomic group takes it and
        never comes back. (With ``.*`` alone, ten stars on a path of 2,000 characters take for ever.)
        """
        spans = [""]
        for place, piece in enumerate(self.pieces):
            if place % 2 == 0:
                spans[-1] += re.escape(piece)
            elif piece == "?":
                spans[-1] += "."
            else:
                spans.append("")
        first, *inner = spans
        last = f".*{inner.pop()}" if inner else ""
        return re.compile(first + "".join(f"(?>.*?{span})" for span in inner) + last, re.DOTALL)


class Match(Struct, frozen=True):
    """A string field has a value of this shape. Case counts."""

    field: StringField
    pattern: Pattern


class Tag(Struct, frozen=True):
    """The exchange has this custom tag, with a value of this shape."""

    name: str
    pattern: Pattern


class Range(Struct, frozen=True):
    """A number lies between two others, both included; None is no limit. Times and durations are nanoseconds."""

    field: NumberField
    low: int | None
    high: int | None


class Trace(Struct, frozen=True):
    """The exchange is of this trace."""

    trace_id: bytes


class Span(Struct, frozen=True):
    """The exchange has this span id."""

    span_id: bytes


class Word(Struct, frozen=True):
    """A word of a text search, folded; ``prefix``: of which only the beginning is given."""

    text: str
    prefix: bool = False


class Text(Struct, frozen=True):
    """Every word stands somewhere in the path, the headers or the bodies."""

    words: tuple[Word, ...]


class Not(Struct, frozen=True):
    """The opposite."""

    part: "Query"


class And(Struct, frozen=True):
    """All of them; none at all is everything."""

    parts: tuple["Query", ...]


class Or(Struct, frozen=True):
    """One of them at least."""

    parts: tuple["Query", ...]


Query = Match | Tag | Range | Trace | Span | Text | Not | And | Or

EVERYTHING = And(())


def exactly(value: str) -> Pattern:
    """The pattern of one value."""
    return Pattern((value,))


def containing(part: str) -> Pattern:
    """The pattern of all values that hold this text."""
    return Pattern(("", "*", part, "*", ""))


def all_of(*parts: Query) -> Query:
    """A conjunction without needless levels."""
    flat: list[Query] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, And) else (part,))
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def conjuncts(query: Query) -> tuple[Query, ...]:
    """What must hold all at once, as far as it shows at the top."""
    return query.parts if isinstance(query, And) else (query,)


def has_text(query: Query) -> bool:
    """Whether there is a text search anywhere in it."""
    match query:
        case Text():
            return True
        case Not(part):
            return has_text(part)
        case And(parts) | Or(parts):
            return any(has_text(part) for part in parts)
        case _:
            return False


def fold(text: str) -> str:
    """A text as it is searched: without regard to case."""
    return text.lower()


def words(folded: str) -> list[str]:
    """The words of a folded text: runs of letters and digits; whatever is beyond ASCII counts as a letter.

    That is the rule of SQLite's ``ascii`` tokenizer and of ClickHouse's ``splitByNonAlpha``, so that all agree.
    """
    return _FOLDED_WORD.findall(folded)


def text_of(query: Query) -> str:
    """A query in the language, on one line; empty for everything."""
    match query:
        case Match(field, pattern):
            return field + _pattern_text(pattern)
        case Tag(name, pattern):
            return f"tag.{name}{_pattern_text(pattern)}"
        case Range(field, low, high):
            return _range_text(field, low, high)
        case Trace(trace_id):
            return f"trace:{trace_id.hex()}"
        case Span(span_id):
            return f"span:{span_id.hex()}"
        case Text(found):
            return " ".join(f'text:"{word.text}{"*" if word.prefix else ""}"' for word in found)
        case Not(part):
            return f"not {_bracketed(part)}"
        case And(parts):
            return " ".join(_bracketed(part) for part in parts)
        case Or(parts):
            return " or ".join(_bracketed(part) for part in parts)


def _bracketed(query: Query) -> str:
    return f"({text_of(query) or 'status>=0'})"  # there is no word for everything inside of a query


def _pattern_text(pattern: Pattern) -> str:
    pieces = [
        piece if place % 2 else _ESCAPED.sub(lambda found: "\\" + found[0], piece)
        for place, piece in enumerate(pattern.pieces)
    ]
    return f':"{"".join(pieces)}"'


def _range_text(field: NumberField, low: int | None, high: int | None) -> str:
    unit = {"status": "", "duration": "ns", "time": "ns"}.get(field, "B")
    if low is not None and low > HIGHEST:
        return f"{field}>{HIGHEST}{unit}"
    if high is not None and high < 0:
        return f"{field}<0{unit}"
    if low is not None and low == high:
        return f"{field}={low}{unit}"
    limits = [f"{field}<={high}{unit}"] if high is not None else []
    if low is not None or not limits:
        limits.insert(0, f"{field}>={max(0, low or 0)}{unit}")
    return " ".join(limits)
