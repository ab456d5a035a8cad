"""Which values from the network get a counter of their own: ports, server names.

A metric's labels must be few, and its counters must never fall. So a value gets its label for good or not at all: the first
ones at once, later ones when they have come often, more often than the least of those that have one. All others are counted
together as ``other``. A port scan, or one client that asks for a thousand names, takes the first places at most.
"""

from typing import Final

OTHER: Final = "other"
FIRST: Final = 32
"""Values that get a label as soon as they come."""
LATER: Final = 32
"""Further ones that get it because they come often."""
OFTEN: Final = 16
CANDIDATES: Final = 256
"""Values without a label whose number is remembered. Beyond it the least frequent are forgotten (Misra and Gries, 1982)."""


class _Family:
    """The values of one kind."""

    __slots__ = ("_candidates", "_labelled")

    def __init__(self) -> None:
        self._labelled: dict[str, int] = {}
        self._candidates: dict[str, int] = {}

    def label(self, value: str) -> str:
        labelled = self._labelled
        if value in labelled:
            labelled[value] += 1
            return value
        if len(labelled) < FIRST:
            labelled[value] = 1
            return value
        if len(labelled) >= FIRST + LATER:
            self._candidates.clear()
            return OTHER
        candidates = self._candidates
        times = candidates.get(value, 0) + 1
        if times >= OFTEN and times > min(labelled.values()):
            candidates.pop(value, None)
            labelled[value] = times
            return value
        if times > 1 or len(candidates) < CANDIDATES:
            candidates[value] = times
        else:
            self._candidates = {known: left - 1 for known, left in candidates.items() if left > 1}
        return OTHER


class Labels:
    """One worker's, by family of values."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def label(self, family: str, value: str) -> str:
        """The label under which to count this value, which has come once more."""
        known = self._families.get(family)
        if known is None:
            known = self._families[family] = _Family()
        return known.label(value)
