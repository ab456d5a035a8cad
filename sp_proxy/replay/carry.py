"""Values that an application makes anew each time (an order's number, a token) and that later requests name (pure).

What stood in a recorded answer at a JSON path is joined with what stands there in the new one; in later requests of the same
session, and in what is expected of their answers, the one takes the place of the other. Only whole words do: ``7`` does not
change ``17``.
"""

import re
from typing import Any

from sp_proxy.core.redact import json_paths

MAX_VALUES = 10_000
"""Of one session: the memory that its answers may fill."""
MAX_LENGTH = 4096


class Carried:
    """The values of one session."""

    def __init__(self, paths: tuple[json_paths.Path, ...]) -> None:
        self._paths = paths
        self._now: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, recorded: bytes, answer: bytes) -> None:
        """Join the values of two bodies; anything that is not JSON in both has none."""
        if not self._paths:
            return
        try:
            was, now = (json_paths.Place([json_paths.decode(body)], 0) for body in (recorded, answer))
        except ValueError:
            return
        for path in self._paths:
            pairs = zip(json_paths.places(was, path), json_paths.places(now, path), strict=False)
            for old, new in pairs:
                self._join(_word(old.value), _word(new.value))

    def _join(self, old: str, new: str) -> None:
        if old and new and old != new and (old in self._now or len(self._now) < MAX_VALUES):
            self._now[old] = new
            self._pattern = None

    def __call__(self, text: str) -> str:
        """A recorded text with the values of this run."""
        if not self._now:
            return text
        if self._pattern is None:
            words = sorted(self._now, key=lambda word: (-len(word), word))
            self._pattern = re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, words))})(?![0-9A-Za-z])")
        return self._pattern.sub(lambda found: self._now[found[0]], text)


def _word(value: Any) -> str:
    """A value as it stands in a text; empty for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value)
    return text if 0 < len(text) <= MAX_LENGTH else ""
