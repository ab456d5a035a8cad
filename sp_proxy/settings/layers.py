"""Layers: what one source (flags, environment, file) says, with the place where each value stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sp_proxy.settings.keys import KeyPath, resolve


@dataclass(frozen=True, slots=True)
class Layer:
    """Nested values of one source; ``places`` has the place of some key paths, ``name`` is the place of the rest."""

    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    places: Mapping[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where the value of this path stands, or the nearest mapping or list around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name

    def depth(self, path: KeyPath) -> int:
        """How much of this path the layer has: ``len(path)`` when it has the value itself."""
        here: Any = self.values
        for index, key in enumerate(path):
            try:
                here = here[key]
            except (KeyError, IndexError, TypeError):
                return index
        return len(path)


@dataclass(frozen=True, slots=True)
class FileLayer:
    """What a file says, and what is worth a warning in it."""

    layer: Layer
    warnings: list[str]


def strongest(layers: list[Layer], path: KeyPath) -> Layer:
    """The layer, of several in order of precedence, that the value of a path comes from; for a path which none has,
    the one that has most of it.
    """
    return max(layers, key=lambda layer: layer.depth(path))


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Lay values over others: mappings are merged, everything else is replaced."""
    for key, value in values.items():
        here = into.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            merge(here, value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def nest(path: KeyPath, value: Any) -> dict[str, Any]:
    """``("a", "b"), 1`` as ``{"a": {"b": 1}}``."""
    for key in reversed(path):
        value = {key: value}
    result: dict[str, Any] = value
    return result


def without_nothing(values: Mapping[str, Any], prefix: KeyPath = ()) -> dict[str, Any]:
    """The values without those known keys that hold nothing: in YAML a key whose lines are all commented out.

    Such a key is as good as absent, as it is in Kubernetes. An unknown one stays, to be complained about.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        path = (*prefix, key)
        if value is None and resolve(path) is not None and (here := resolve(prefix)) and here.kind == "section":
            continue
        kept[key] = _within(value, path)
    return kept


def _within(value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return without_nothing(value, path)
    if isinstance(value, list):
        return [_within(item, (*path, index)) for index, item in enumerate(value)]
    return value


def scalars(values: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value of nested mappings with its path; a list counts as one value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from scalars(value, (*prefix, key))
        else:
            yield (*prefix, key), value
