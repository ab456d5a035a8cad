"""JSON paths in rules: ``$.user.password``, ``items[*].card``, ``$..token``, ``['odd key'][0]`` (a part of RFC 9535).

A path starts at the top of the document, with or without ``$``. ``*`` stands for any key or index, ``..`` for any number of
levels. Keys are in the document's own case. Numbers keep all their digits. Of keys that stand twice in an object the last one
counts, as most readers have it; what is sent then has no other.
"""

import re
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct, json

_STEP: Final = re.compile(
    r"""
    (?P<deep>\.\.)? (?:
      \.?\[ \s* (?: (?P<index>-?\d{1,9}) | (?P<any>\*) | '(?P<single>[^']*)' | "(?P<double>[^"]*)" ) \s* \]
    | (?(deep) | \.) (?: (?P<star>\*) | (?P<key>[^\s.\[\]*'"$]+) )
    )
    """,
    re.VERBOSE,
)
ALLOWED: Final = "a JSON path, for example $.user.password, items[*].card or $..token"

_decode = json.Decoder(float_hook=Decimal).decode
encode: Final = json.Encoder(decimal_format="number").encode
"""The text of what ``decode`` made."""
_BOM: Final = b"\xef\xbb\xbf"


class Step(Struct, frozen=True):
    """One step down. ``key`` is the key, or the index, or None for any. ``deep``: any number of levels before it."""

    key: str | int | None
    deep: bool


Path = tuple[Step, ...]


def parse(text: str) -> Path:
    """The steps of a path. Raises ValueError."""
    text = text.strip()
    rest = text.removeprefix("$")
    if rest and rest == text and not rest.startswith((".", "[")):
        rest = f".{rest}"
    steps = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise ValueError(ALLOWED)
        at = match.end()
        key: str | int | None = None
        if match["index"]:
            key = int(match["index"])
        elif not match["any"] and not match["star"]:
            key = next(found for found in (match["single"], match["double"], match["key"]) if found is not None)
        steps.append(Step(key, bool(match["deep"])))
    if not steps:
        raise ValueError(ALLOWED)
    return tuple(steps)


def needed_key(path: Path) -> str:
    """The longest key that stands in every document in which the path leads anywhere; empty when there is none."""
    return max((step.key for step in path if isinstance(step.key, str)), key=len, default="")


def decode(text: bytes) -> Any:
    """The value of a document. Raises ValueError for what is none, or is nested too deeply."""
    try:
        return _decode(text.removeprefix(_BOM))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def count_keys(value: Any) -> int:
    """How many keys there are in all objects of a document."""
    count = 0
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            count += len(holder)
            waiting += holder.values()
        elif isinstance(holder, list):
            waiting += holder
    return count


class Place(Struct, frozen=True, gc=False):
    """Where a value stands: in what (a dict or a list), and under which key."""

    holder: Any
    key: Any

    @property
    def value(self) -> Any:
        """What stands there now."""
        return self.holder[self.key]

    @property
    def identity(self) -> tuple[int, Any]:
        """Equal for the same place only, as long as the holder lives."""
        return id(self.holder), self.key


def places(top: Place, path: Path) -> list[Place]:
    """All places to which a path leads from the place of a document, each once; what holds others comes before them.

    Takes time in proportion to the document for each step, whatever the path.
    """
    here = [top]
    for step in path:
        found: dict[tuple[int, Any], Place] = {}
        for place in _with_all_below(here) if step.deep else here:
            for child in _children(place, step.key):
                found.setdefault(child.identity, child)
        here = list(found.values())
    return here


def _with_all_below(start: list[Place]) -> list[Place]:
    found = {place.identity: place for place in start}
    waiting = start
    while waiting:
        below = []
        for place in waiting:
            for child in _children(place, None):
                if child.identity not in found:
                    found[child.identity] = child
                    below.append(child)
        waiting = below
    return list(found.values())


def _children(place: Place, key: str | int | None) -> list[Place]:
    value = place.value
    if isinstance(value, dict):
        if key is None:
            return [Place(value, each) for each in value]
        return [Place(value, key)] if key in value else []
    if isinstance(value, list):
        if key is None:
            return [Place(value, each) for each in range(len(value))]
        if isinstance(key, int) and -len(value) <= key < len(value):
            return [Place(value, key % len(value))]
    return []
