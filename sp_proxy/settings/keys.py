"""The tree of known keys, read off the model: what a dotted name means, and which known one an unknown one resembles.

A key path is a tuple of mapping keys and list indices, ``("collectionRules", "http", "server", 0, "path")``; written
for a person it is ``collectionRules.http.server[0].path``.
"""

import json
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.section import Section

type KeyPath = tuple[str | int, ...]

ENVIRONMENT_PREFIX = "SP_PROXY_"
ENVIRONMENT_SEPARATOR = "__"
MAX_SHOWN = 60
"""Characters of a foreign value that a message shows."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,60}")


class Node(NamedTuple):
    """What may stand at a key path."""

    kind: Literal["section", "list", "mapping", "value"]
    item: Any
    """The section's class, the annotation of a list's or mapping's items, or the annotation of the value."""


def node(annotation: Any) -> Node:
    """What an annotation of the model allows."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return node(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not NoneType]
        return node(members[0]) if len(members) == 1 else Node("value", annotation)
    if origin is list:
        return Node("list", get_args(annotation)[0])
    if origin is dict:
        return Node("mapping", get_args(annotation)[1])
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Node("section", annotation)
    return Node("value", annotation)


ROOT = Node("section", SettingsModel)


def resolve(path: KeyPath) -> Node | None:
    """What may stand there; None when the model knows no such key."""
    here: Node | None = ROOT
    for part in path:
        here = _step(here, part) if here else None
    return here


def _step(here: Node, part: str | int) -> Node | None:
    if here.kind == "section":
        field = here.item.model_fields.get(part)
        return node(field.annotation) if field else None
    if (here.kind == "list" and isinstance(part, int)) or (here.kind == "mapping" and isinstance(part, str)):
        return node(here.item)
    return None


def is_secret(path: KeyPath) -> bool:
    """Whether a value there, or any part of a broken value there, must not be shown."""
    return any(
        (found := resolve(path[:end])) is not None and found.item is SecretStr for end in range(1, 1 + len(path))
    )


def fields(section: type[Section] = SettingsModel, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every setting with its path, sections left out, in the order of the model."""
    for name, field in section.model_fields.items():
        here = node(field.annotation)
        if here.kind == "section":
            yield from fields(here.item, (*prefix, name))
        else:
            yield (*prefix, name), field


def names_in(path: KeyPath) -> list[str]:
    """The keys that the mapping at this path may hold; empty where any may stand."""
    here = resolve(path)
    return list(here.item.model_fields) if here and here.kind == "section" else []


def part(key: str) -> str:
    """One key as a person may see it: quoted and cut when it is not a plain word."""
    return key if _PLAIN.fullmatch(key) else quoted(key)


def quoted(text: str) -> str:
    """Foreign text in quotes, on one line, without control characters, cut when it is long."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    shown = json.dumps(cut, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)


def dotted(path: KeyPath) -> str:
    """The name for a person."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{part(key)}" if text else part(key)
    return text


def variable(path: KeyPath) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + ENVIRONMENT_SEPARATOR.join(str(key).upper() for key in path)


@cache
def _known() -> list[KeyPath]:
    known: dict[KeyPath, None] = {}
    for path, _ in fields():
        for end in range(1, len(path) + 1):
            known[path[:end]] = None
    return list(known)


def _alike(a: str, b: str) -> float:
    return SequenceMatcher(None, a[:MAX_SHOWN].lower(), b.lower()).ratio()


def nearest(path: KeyPath) -> str:
    """The dotted name of the known key which an unknown one resembles most.

    Its neighbours (the keys that its mapping may hold) win over keys elsewhere which resemble it as much.
    """
    wrong = str(path[-1])
    full = "_".join(str(key) for key in path if isinstance(key, str))
    best, best_score = "", -1.0
    for name in names_in(path[:-1]):
        around = full.removesuffix(wrong) if full.endswith(wrong) else ""
        score = 0.05 + max(_alike(wrong, name), _alike(full, around + name))
        if score > best_score:
            best, best_score = dotted((*path[:-1], name)), score
    for known in _known():
        score = max(_alike(full, "_".join(map(str, known))), _alike(wrong, str(known[-1])) - 0.1)
        if score > best_score:
            best, best_score = dotted(known), score
    return best


def nearest_variable(name: str) -> str:
    """The environment variable of a setting or section which an unknown one resembles most."""
    return max((variable(known) for known in _known()), key=lambda known: _alike(name, known))
