"""Answers of a size that a reader can take (pure): texts are cut, lists end early, and both say so.

What was captured was written by anyone. It is told as values of JSON, in which no character is an instruction to a terminal.
"""

import json
from typing import Any

MAX_ANSWER = 48 << 10
"""Characters of one answer."""
MAX_FIELD = 500
"""Of a header field, a target, an attribute."""
MAX_BODY = 32 << 10


def cut(text: str, most: int = MAX_FIELD) -> str:
    """The beginning of a text, and how much more there is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def trimmed(value: Any, most: int = MAX_FIELD) -> Any:
    """A document with every text in it cut; what is nested beyond reason is left out."""
    return _trimmed(value, most, 40)


def _trimmed(value: Any, most: int, depth: int) -> Any:
    if isinstance(value, str):
        return cut(value, most)
    if not depth and isinstance(value, dict | list):
        return "… (nested deeper)"
    if isinstance(value, dict):
        return {cut(str(key)): _trimmed(each, most, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_trimmed(each, most, depth - 1) for each in value]
    return value


def told(document: dict[str, Any], *lists: str, optional: tuple[str, ...] = ()) -> str:
    """A document as JSON within the bounds: where it would be too long, first what is optional goes, by name and in order, then
    the lists of these names end early.
    """
    text = _encode(document)
    document = dict(document)
    for name in optional:
        if len(text) > MAX_ANSWER:
            document[name] = "left out: too long"
            text = _encode(document)
    for name in reversed(lists):
        whole: list[Any] = document[name]
        kept = len(whole)
        while len(text) > MAX_ANSWER and kept:
            kept //= 2
            document |= {name: whole[:kept], f"{name}_left_out": len(whole) - kept}
            text = _encode(document)
    if len(text) > MAX_ANSWER:
        text = _encode({"too_long": cut(text, MAX_ANSWER // 2)})  # quoted once more, it may double
    return text


def _encode(document: dict[str, Any]) -> str:
    # ASCII: no mark that turns the direction of writing, or cannot be seen, goes out as itself.
    return json.dumps(document, separators=(",", ":"))
