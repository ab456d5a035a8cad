"""A configuration file's text as plain data, with the line of every key. YAML and JSON, nothing but data.

Stricter than ``yaml.safe_load`` where that would hide a mistake (a key given twice is an error) and milder where YAML 1.1
surprises (dates stay text, keys are always text). What it reads is bounded in depth and number of values, so an alias
to itself or an exponential chain of aliases ends in an error line, as everything else that cannot be read does.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath, dotted, quoted

MAX_BYTES = 1 << 20
"""What a Kubernetes ConfigMap may hold; a larger file is not a configuration."""
MAX_DEPTH = 40
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_TEXT = {_TAG + "str", _TAG + "timestamp", _TAG + "value"}
_PLAIN = {_TAG + "int", _TAG + "float", _TAG + "bool"}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    value: Any
    """None, bool, int, float, str, list or dict with text keys."""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line (from 1) of every key and list item."""


def read(path: Path) -> str:
    """The text of a file. Raises SettingsError with one line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError([f"{path}: no such file"]) from None
    except IsADirectoryError:
        raise SettingsError([f"{path}: a directory, not a file"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror or error})"]) from None
    except ValueError:  # a path with a NUL
        raise SettingsError([f"{quoted(str(path))}: not a file name"]) from None
    if len(data) > MAX_BYTES:
        raise SettingsError([f"{path}: larger than {MAX_BYTES >> 20} MiB, so not a configuration"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError([f"{path}:{line}: not UTF-8 text (byte {error.start})"]) from None


def parse(text: str, name: str) -> list[Document]:
    """The documents of a file, in order. Raises SettingsError with a line for each mistake; ``name`` is the file's."""
    is_json = False
    if name.endswith(".json") or text.lstrip()[:1] == "{":
        try:
            json.loads(text)
            is_json = True
        except (ValueError, RecursionError) as error:
            if name.endswith(".json") and isinstance(error, json.JSONDecodeError) and text.strip():
                raise SettingsError([f"{name}:{error.lineno}: not JSON ({error.msg}, column {error.colno})"]) from None
    if is_json:
        # A tab in JSON text can only be white space, where PyYAML refuses it.
        text = text.replace("\t", " ")
    reader = _Reader(name, is_json)
    try:
        documents = [reader.document(node) for node in yaml.compose_all(text, yaml.SafeLoader)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise SettingsError([f"{place}: not YAML ({_reason(error)})"]) from None
    except yaml.reader.ReaderError as error:
        raise SettingsError([f"{name}: not YAML (character {error.position} is not allowed in it)"]) from None
    except RecursionError:
        raise SettingsError([f"{name}: nested too deeply"]) from None
    except _TooLargeError as error:
        raise SettingsError([f"{name}:{error.line}: {error}"]) from None
    if reader.problems:
        raise SettingsError(reader.problems)
    return documents


def _reason(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or "unreadable").split())
    if "alias" in problem or "anchor" in problem or "tag" in problem:
        # These quote the text, which may be a secret that begins with * & or !
        problem = problem.partition("'")[0].partition('"')[0].strip()
    return (
        f"{problem}; a value which begins with a special character must be in quotes" if "token" in problem else problem
    )


class _TooLargeError(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Reader:
    """Nodes to plain data. Collects problems and goes on, so that one run tells of all of them."""

    def __init__(self, name: str, is_json: bool) -> None:
        self.problems: list[str] = []
        self._name = name
        self._is_json = is_json
        self._values = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def document(self, root: yaml.Node) -> Document:
        lines: dict[KeyPath, int] = {}
        return Document(self._value(root, (), lines), lines)

    def _problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        name = f"{dotted(path)}: " if path else ""
        self.problems.append(f"{self._name}:{node.start_mark.line + 1}: {name}{text}")

    def _value(self, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
        self._values += 1
        line = node.start_mark.line + 1
        if len(path) > MAX_DEPTH:
            raise _TooLargeError("nested too deeply (or an alias to itself)", line)
        if self._values > MAX_VALUES:
            raise _TooLargeError(f"more than {MAX_VALUES} values", line)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, lines)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = []
            for index, item in enumerate(node.value):
                lines[*path, index] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index), lines))
            return items
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._problem(node, path, "this YAML tag is not allowed here")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:  # merged mappings first: a mapping's own keys win over them
            if isinstance(key, yaml.ScalarNode) and key.tag == _TAG + "merge":
                self._merge(value, path, lines, result)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == _TAG + "merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key must be text")
                continue
            name, line = _text(key.value), key.start_mark.line + 1
            if name in first:
                self._problem(key, (*path, name), f"given twice (first in line {first[name]})")
                continue
            first[name] = lines[*path, name] = line
            result[name] = self._value(value, (*path, name), lines)
        return result

    def _merge(self, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], into: dict[str, Any]) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in reversed(sources):  # the first of several wins
            if not isinstance(source, yaml.MappingNode):
                self._problem(source, path, "<< needs a mapping, or a list of mappings")
                continue
            # One level deeper as the depth counts, so that a mapping which merges itself ends.
            merged: dict[KeyPath, int] = {}
            inner = self._value(source, (*path, "<<"), merged)
            into.update(inner or {})
            cut = len(path) + 1
            lines.update({(*path, *key[cut:]): line for key, line in merged.items()})

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if self._is_json:
            return _text(node.value) if node.style else json.loads(node.value)
        if node.tag in _TEXT:
            return _text(node.value)
        if node.tag == _TAG + "null":
            return None
        if node.tag in _PLAIN:
            try:
                return self._scalars.construct_object(node)
            except (ValueError, KeyError, IndexError, OverflowError, yaml.YAMLError):
                self._problem(node, path, "the value does not fit its YAML type")
                return None
        self._problem(node, path, "this YAML tag is not allowed here")
        return None


def _text(value: str) -> str:
    # JSON writes a character beyond U+FFFF as two escapes, which YAML leaves apart; a lone half is replaced.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
