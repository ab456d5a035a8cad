"""The patterns of collection and exemption rules, matched at requests: they must not hang a worker, nor make it large.

A pattern without repetition, choice of groups or options (``/v1/traces``, ``^/health$``, ``/a|/b``) takes time linear in
the text with the standard library's engine as well, which is there already. All others get RE2, which is imported by
whoever has one: 13 ms and 4.4 MiB for a worker, of which 1.9 are its own.
"""

import re
import warnings
from collections.abc import Callable
from typing import Final

Search = Callable[[str], object]
"""Whether a pattern matches anywhere in a text: anything that is true for yes."""

_COSTLY: Final = frozenset("*+?{(\\")
"""What makes the standard library's engine go back, and escapes, in which the two engines differ (but for ``\\.``)."""


def compile_pattern(pattern: str) -> Search:
    """A search for a pattern that a person wrote, in linear time. Raises ValueError with the reason, on one line."""
    if _COSTLY.isdisjoint(pattern.replace(r"\.", "").replace(r"\/", "")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "possible nested set" is for authors of Python code
                return re.compile(pattern).search
        except re.error as error:
            raise ValueError(" ".join(str(error).split())) from error
    from sp_proxy.regex import searcher  # noqa: PLC0415 (see above)

    return searcher(pattern)
