"""The parser of the query language (pure). Whatever the text, the outcome is a ``Query`` or a ``QueryError``.

query  = or
or     = and *( "or" and )
and    = unary *( ["and"] unary )
unary  = ( "not" / "-" / "!" ) unary / "(" or ")" / term
term   = FIELD OPERATOR VALUE / VALUE          ; a value alone is a text search
"""

import difflib
import re
from typing import NoReturn, get_args

from sp_proxy.backend.query import values
from sp_proxy.backend.query.syntax import (
    EVERYTHING,
    Match,
    Not,
    NumberField,
    Or,
    Pattern,
    Query,
    Range,
    Span,
    StringField,
    Tag,
    Text,
    Trace,
    Word,
    all_of,
    fold,
    words,
)

MAX_LENGTH = 4096
MAX_DEPTH = 40
MAX_TERMS = 100
"""More would be no question of a person's, and SQLite has limits of its own for expressions."""

_STRINGS: tuple[StringField, ...] = get_args(StringField)
_NUMBERS: tuple[NumberField, ...] = get_args(NumberField)
FIELDS = (*_STRINGS, *_NUMBERS, "trace", "span", "tag.NAME", "text")
_DIRECTIONS = ("inbound", "outbound", "unknown")
_SPACE = re.compile(r"\s*")
_TERM = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)(:|!=|<=|>=|=|<|>)")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^\s()"\\]|\\.)+)', re.DOTALL)
_PIECE = re.compile(r"\\(.)|([*?])|([^\\*?]+)", re.DOTALL)
_KEYWORD = re.compile(r"(and|or|not)(?=[\s()]|$)", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]*", re.ASCII)


class QueryError(ValueError):
    """What is wrong with a query, in one line that begins with its place."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        """Where, counted in characters from 1."""


def parse(text: str, *, now_unix_ns: int) -> Query:
    """A query. ``now_unix_ns`` is what times such as ``-15m`` are counted from. Raises QueryError."""
    if len(text) > MAX_LENGTH:
        raise QueryError(MAX_LENGTH + 1, f"a query has at most {MAX_LENGTH} characters")
    return _Parser(text, now_unix_ns).query()


class _Parser:
    def __init__(self, text: str, now_unix_ns: int) -> None:
        self._text = text
        self._now = now_unix_ns
        self._at = 0
        self._terms = 0

    def query(self) -> Query:
        self._skip_space()
        if self._at == len(self._text):
            return EVERYTHING
        found = self._or(0)
        if self._at < len(self._text):
            self._fail('a ")" without its "("')
        return found

    def _or(self, depth: int) -> Query:
        parts = [self._and(depth)]
        while self._keyword("or"):
            parts.append(self._and(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self, depth: int) -> Query:
        parts = [self._unary(depth)]
        while self._keyword("and") or not (self._ends() or self._sees("or")):
            parts.append(self._unary(depth))
        return all_of(*parts)

    def _unary(self, depth: int) -> Query:
        if depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH}")
        begin = self._at
        if self._keyword("not"):
            return Not(self._unary(depth + 1))
        if self._text[begin : begin + 1] in {"-", "!"}:
            self._at += 1
            if self._at == len(self._text) or self._text[self._at].isspace():
                self._fail(f"what {self._text[begin]!r} is to exclude is missing")
            return Not(self._unary(depth + 1))
        if self._text[begin : begin + 1] == "(":
            self._at += 1
            self._skip_space()
            inner = self._or(depth + 1)
            if self._text[self._at : self._at + 1] != ")":
                self._fail('a ")" is missing')
            self._at += 1
            self._skip_space()
            return inner
        return self._term()

    def _term(self) -> Query:
        begin = self._at
        if self._ends():
            self._fail("a term is missing")
        for keyword in ("and", "or"):
            if self._sees(keyword):
                self._fail(f"a term is missing before {keyword!r} (to search for the word, quote it)")
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(f"more than {MAX_TERMS} terms")
        named = _TERM.match(self._text, begin)
        if named is None:
            return self._text_search(begin, self._value("a term is missing"))
        field, operator = named[1], named[2]
        self._check_field(field, begin)
        self._at = named.end()
        return self._comparison(field, operator, begin, self._value(f"a value is missing after {named[0]!r}"))

    def _value(self, missing: str) -> str:
        """The next value as it is written, escapes and wildcards in it."""
        found = _VALUE.match(self._text, self._at)
        if found is None:
            self._fail("a closing quote is missing" if self._text[self._at : self._at + 1] == '"' else missing)
        self._at = found.end()
        rest = self._text[self._at : self._at + 1]
        if rest == '"' or (found[1] is not None and rest and not rest.isspace() and rest != ")"):
            self._fail("a space is missing between two terms")
        if rest == "\\":
            self._fail("a backslash at the end")
        self._skip_space()
        return found[1] if found[1] is not None else found[2]

    def _comparison(self, field: str, operator: str, begin: int, value: str) -> Query:
        literal = operator in {"=", "!="}
        if field in _STRINGS or field.startswith("tag."):
            if operator not in {":", "=", "!="}:
                self._fail(f"{field} is a text: it is compared with : (a pattern), = or !=", begin)
            pattern = _pattern(value, wildcards=not literal)
            found = self._string(field, pattern, begin)
        elif field in _NUMBERS:
            return self._number(next(name for name in _NUMBERS if name == field), operator, _plain(value), begin)
        else:
            if operator not in {":", "=", "!="}:
                self._fail(f"{field} is compared with :, = or !=", begin)
            if field in {"trace", "span"}:
                digits = 32 if field == "trace" else 16
                if len(value) != digits or not _HEX.fullmatch(value):
                    self._fail(f"{field}: {value[:64]!r} is not a {field} id; allowed: {digits} hex digits", begin)
                found = Trace(bytes.fromhex(value)) if field == "trace" else Span(bytes.fromhex(value))
            else:
                found = self._text_search(begin, value)
        return Not(found) if operator == "!=" else found

    def _string(self, field: str, pattern: Pattern, begin: int) -> Query:
        if field.startswith("tag."):
            return Tag(field.removeprefix("tag."), pattern)
        if field == "direction" and pattern.exact is not None and pattern.exact not in _DIRECTIONS:
            self._fail(f"direction: {pattern.exact[:64]!r} is not allowed; allowed: {' or '.join(_DIRECTIONS)}", begin)
        if field == "method" and pattern.exact is not None and pattern.exact.islower():
            pattern = Pattern((pattern.exact.upper(),))
        return Match(next(name for name in _STRINGS if name == field), pattern)

    def _number(self, field: NumberField, operator: str, value: str, begin: int) -> Query:
        try:
            match field:
                case "status":
                    low, high = values.status(value)
                case "duration":
                    low, high = values.duration(value)
                case "time":
                    low, high = values.time(value, self._now)
                case "request_size" | "response_size":
                    low, high = values.size(value)
        except ValueError as error:
            self._fail(f"{field}: {value[:64]!r} is not allowed; allowed: {error}", begin)
        match operator:
            case "<":
                return Range(field, None, low - 1)
            case "<=":
                return Range(field, None, high)
            case ">":
                return Range(field, high + 1, None)
            case ">=":
                return Range(field, low, None)
            case "!=":
                return Not(Range(field, low, high))
            case _:
                return Range(field, low, high)

    def _text_search(self, begin: int, value: str) -> Text:
        folded = fold(_plain(value.removesuffix("*")))
        found = words(folded)
        if not found:
            self._fail("a text search needs a letter or a digit", begin)
        # The star says something of the last word only if it stands right behind it.
        cut = value.endswith("*") and not value.endswith("\\*") and folded.endswith(found[-1])
        unfinished = [False] * (len(found) - 1) + [cut]
        return Text(tuple(Word(word, prefix) for word, prefix in zip(found, unfinished, strict=True)))

    def _check_field(self, field: str, begin: int) -> None:
        if field in FIELDS or (field.startswith("tag.") and len(field) > len("tag.")):
            return
        near = difflib.get_close_matches(field.lower(), FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"fields: {', '.join(FIELDS)}"
        self._fail(f"{field[:64]!r} is not a field ({hint}); to search for it as text, quote it", begin)

    def _keyword(self, word: str) -> bool:
        """Take this keyword, if it is the next."""
        if not self._sees(word):
            return False
        self._at += len(word)
        self._skip_space()
        return True

    def _sees(self, word: str) -> bool:
        found = _KEYWORD.match(self._text, self._at)
        return found is not None and found[1].lower() == word

    def _ends(self) -> bool:
        return self._at == len(self._text) or self._text[self._at] == ")"

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        raise QueryError((self._at if at is None else at) + 1, reason)


def _pattern(value: str, *, wildcards: bool) -> Pattern:
    pieces = [""]
    for escaped, wild, plain in _PIECE.findall(value):
        if wild and wildcards:
            if wild == "*" and len(pieces) > 1 and pieces[-2:] == ["*", ""]:
                continue  # ** is *
            pieces += [wild, ""]
        else:
            pieces[-1] += escaped or wild or plain
    return Pattern(tuple(pieces))


def _plain(value: str) -> str:
    return "".join(escaped or wild or plain for escaped, wild, plain in _PIECE.findall(value))
