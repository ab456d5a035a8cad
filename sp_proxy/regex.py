"""Regular expressions from people, in time linear in the text: RE2. Nothing that a person writes and nothing that a client
sends can make a match hang, which the standard library's engine allows (``(a+)+$``).

Its syntax has no look-around and no back-references. Importing RE2 takes 13 ms and 4.4 MiB, of which 1.9 are a process's
own; who may not need it imports this module late.
"""

from collections.abc import Callable, Sequence
from typing import Final

import re2

Span = tuple[int, int]

MAX_WORK: Final = 1 << 28
"""Bytes that one search for all matches may look at. Each match can take a look at all of the text (``a.*b|a``)."""
MIN_MATCHES: Final = 64
_MAX_MEMORY: Final = 16 << 20
"""Bytes for the automaton of a scanner; taken as far as needed."""

Find = Callable[[bytes], list[Span] | None]
Scan = Callable[[bytes], Sequence[int] | None]


def _options(*, latin_1: bool) -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    if latin_1:
        options.encoding = re2.Options.Encoding.LATIN1
    return options


def _regexp(pattern: str, *, latin_1: bool = False) -> re2._Regexp:
    try:
        return re2.compile(pattern.encode(), _options(latin_1=latin_1))
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(" ".join(reason.split())) from None
    except UnicodeEncodeError:
        raise ValueError("not text") from None


def finder(pattern: str, *, latin_1: bool = False) -> Find:
    """A search for all places where a pattern matches: of its first group where it has one, else of the whole.

    Text is UTF-8, or with ``latin_1`` any bytes, one character each. Matches of nothing are left out. The answer is None
    when there are too many to go on. Raises ValueError with the reason when this is no pattern.
    """
    regexp = _regexp(pattern, latin_1=latin_1)
    group = 1 if regexp.groups else 0

    def find(text: bytes) -> list[Span] | None:
        spans: list[Span] = []
        room = max(MIN_MATCHES, MAX_WORK // (len(text) + 1))
        for match in regexp.finditer(text):
            if room == 0:
                return None
            room -= 1
            start, end = match.span(group)
            if start < end:
                spans.append((start, end))
        return spans

    return find


def searcher(pattern: str) -> Callable[[str], bool]:
    """A test whether a pattern matches anywhere in a text. Lone surrogates, which stand for undecodable bytes, count as
    some character, so that ``.`` matches them.

    Raises ValueError with the reason when this is no pattern.
    """
    search = _regexp(pattern).search

    def found(text: str) -> bool:
        return search(text.encode("utf-8", "replace")) is not None

    return found


def scanner(patterns: Sequence[str]) -> Scan:
    """One pass over a text for many patterns at once; the answer is which of them match, by index in any
    order, or None when none does.

    Bytes of any kind, one character each. 2.3 µs for 1 KiB of JSON (``benchmarks/redact.py``).
    """
    options = _options(latin_1=True)
    together = re2.Set.SearchSet(options)
    for pattern in patterns:
        together.Add(pattern.encode())
    together.Compile()
    match: Scan = together.Match
    return match


def literal(text: str) -> str:
    """A pattern that matches this very text."""
    return str(re2.escape(text))
