"""The seam to the engine for regular expressions, which is not in the standard library (``sp_proxy/regex.py`` has the
real one). Whatever stands behind it must take time linear in the text.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

Span = tuple[int, int]
"""Start and end, in bytes."""

Find = Callable[[bytes], list[Span] | None]
"""All places where a pattern matches, in order, without overlap: of its first group where it has one, else of the
whole. None when there are too many to go on.
"""

Scan = Callable[[bytes], Sequence[int] | None]
"""Which of several patterns match, by index, in one pass; None when none does."""


class Engine(Protocol):
    """What is needed of an engine. Raises ValueError, with the reason, for what is no pattern."""

    def finder(self, pattern: str, *, latin_1: bool = False) -> Find:
        """A search for all places. Text is UTF-8, or with ``latin_1`` any bytes, one character each."""
        ...

    def searcher(self, pattern: str) -> Callable[[str], bool]:
        """A test whether a pattern matches anywhere."""
        ...

    def scanner(self, patterns: Sequence[str]) -> Scan:
        """One pass for many patterns, over any bytes."""
        ...

    def literal(self, text: str) -> str:
        """A pattern that matches this very text."""
        ...
