"""Where a captured text was redacted (pure): what stands there is nobody's value, so it is never sent.

``replace`` leaves the replacement of the configuration, ``hash`` leaves ``hash:`` and 16 letters (``core/redact``). In a
URL or a form either may be percent-encoded.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from sp_proxy.core.redact.config import REPLACEMENT

_HASH = r"hash(?::|%3[Aa])[a-z2-7]{16}(?![0-9a-z])"


class Placeholders:
    """Finds them."""

    def __init__(self, replacements: Iterable[str] = ()) -> None:
        """``replacements`` are those of the configuration beside the default."""
        words = {REPLACEMENT, *(each for each in replacements if each)}
        words |= {quoted for word in words for quoted in (quote(word, safe=""), quote_plus(word))}
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), _HASH]), re.IGNORECASE)

    def stand_in(self, text: str) -> bool:
        """Whether any stands in a text."""
        return self._pattern.search(text) is not None

    def fits(self, recorded: str, text: str) -> bool:
        """Whether a text may be what was recorded before it was redacted: any value where a placeholder stands."""
        pieces = self._pattern.split(recorded)
        if len(pieces) == 1:
            return recorded == text
        # By hand, not with .* between the pieces: that takes time beyond all bounds on a hostile text.
        first, *middle, last = pieces
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True
