"""The documents of a YAML text: their values, and their nodes with positions. What cannot be read is one line for a person."""

from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

_MOST_VALUES = 1_000_000
"""An alias of aliases of aliases stands for more than any manifest holds."""


class ManifestError(Exception):
    """A text that cannot be read, or not be changed as asked; one line for a person."""


def read(text: str) -> list[Any]:
    """The values of all documents. Raises ManifestError: not YAML, a key given twice, tags, endless aliases."""
    try:
        for node in compose(text):
            _check(node, {})
        return list(yaml.load_all(text, yaml.CSafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        words = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ManifestError(f"{place}not YAML: {words}") from None
    except RecursionError:
        raise ManifestError("nested too deeply, or an alias to itself") from None
    except ValueError as error:  # a date that does not exist
        raise ManifestError(f"not YAML: {error}") from None


def compose(text: str) -> list[Node]:
    """A node for each document. Raises YAMLError."""
    return list(yaml.compose_all(text, yaml.CSafeLoader))


def _check(node: Node, counted: dict[int, int]) -> int:
    """How many values a node stands for with its aliases written out. Raises ManifestError: too many, or a key twice."""
    if id(node) in counted or not isinstance(node, CollectionNode):
        return counted.get(id(node), 1)
    parts = node.value if isinstance(node, SequenceNode) else [value for _, value in node.value]
    total = 1 + sum(_check(part, counted) for part in parts)
    if total > _MOST_VALUES:
        raise ManifestError(f"more than {_MOST_VALUES} values, with its aliases written out")
    if isinstance(node, MappingNode):
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value in keys:
                raise ManifestError(f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
            keys.add(str(key.value))
    counted[id(node)] = total
    return total
