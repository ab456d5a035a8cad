"""Changes a few values of a YAML text, and leaves every other character of it as it was: comments, order, quotes, indentation.

``rewrite`` takes the text and the values that its documents shall have. It walks both with the parser's positions and edits
only where they differ: a key or an item that is new is laid after its neighbour, one that is gone is cut out. A
round-trip library (ruamel.yaml) would lay the whole text anew: one indentation for all lists, and comments that stand
before a key moved behind what is inserted there.

The result is parsed again and compared with what was asked for, so a text is changed as meant or not at all.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from sp_proxy.sidecar.documents import ManifestError, compose, read
from sp_proxy.sidecar.layout import block, inline, list_offset

type _Pairs = dict[Any, tuple[ScalarNode, Node]]


@dataclass(frozen=True, slots=True)
class _Edit:
    """``text`` in the place of what stands from ``start`` to ``end``."""

    start: int
    end: int
    text: str


def rewrite(text: str, old: Sequence[Any], new: Sequence[Any]) -> str:
    """The text with the documents ``new`` instead of ``old``, which is what ``read`` gave. Raises ManifestError.

    Values of ``new`` that are the same objects as in ``old`` are not looked into.
    """
    nodes = compose(text)
    writer = _Writer(text, list_offset(nodes))
    for node, before, after in zip(nodes, old, new, strict=True):
        writer.value(node, before, after)
    result = writer.result()
    try:
        as_meant = read(result) == list(new)
    except ManifestError:
        as_meant = False
    if not as_meant:
        raise ManifestError("cannot be edited as text: write out its YAML aliases and merge keys")
    return result


class _Writer:
    """Collects the edits of one text."""

    def __init__(self, text: str, list_offset: int) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._offset = list_offset
        self._edits: list[_Edit] = []

    def result(self) -> str:
        parts, position = [], 0
        for edit in sorted(self._edits, key=lambda edit: (edit.start, edit.end)):  # stable: in the order they were made
            if edit.start < position:
                raise ManifestError("cannot be edited as text: write out its YAML aliases")
            parts += [self._text[position : edit.start], edit.text]
            position = edit.end
        return "".join([*parts, self._text[position:]])

    def value(self, node: Node, old: Any, new: Any) -> None:
        """A node that is a document, or an item of a list."""
        if old is new or old == new:
            return
        if isinstance(node, MappingNode) and isinstance(old, dict) and isinstance(new, dict):
            self._mapping(node, old, new)
        elif isinstance(node, SequenceNode) and isinstance(old, list) and isinstance(new, list) and new:
            self._sequence(node, old, new, None)
        else:
            self._edit(node.start_mark.index, self._end(node), inline(new))

    def _mapping(self, node: MappingNode, old: dict[Any, Any], new: dict[Any, Any]) -> None:
        pairs: _Pairs = {key.value: (key, value) for key, value in node.value if isinstance(key, ScalarNode)}
        gone = [key for key in old if key not in new]
        if gone and not all(key in pairs and self._can_be_cut(node, pairs[key][0]) for key in gone):
            self._edit(node.start_mark.index, self._end(node), inline(new))
            return
        if gone and len(gone) == len(pairs):
            raise ManifestError(f"line {node.start_mark.line + 1}: cannot be edited as text: nothing would be left")
        for key in gone:
            self._cut(node, *pairs[key])
        added: dict[str, Any] = {}
        for key, value in new.items():
            if key in pairs and key in old:
                self._pair(*pairs[key], old[key], value, flow=node.flow_style)
            elif key not in old or old[key] != value:  # what comes by a merge key is only overridden
                added[key] = value
        if added and node.flow_style:
            self._into_flow(node, [f"{json.dumps(key)}: {inline(value)}" for key, value in added.items()])
        elif added:
            self._after(self._end(node), block(added, self._offset), node.start_mark.column)

    def _pair(self, key: ScalarNode, node: Node, old: Any, new: Any, *, flow: bool) -> None:
        """The value of a key."""
        if old is new or old == new:
            return
        if isinstance(node, SequenceNode) and isinstance(old, list) and old and isinstance(new, list) and new:
            self._sequence(node, old, new, key)
        elif isinstance(node, MappingNode) and isinstance(old, dict) and old and isinstance(new, dict) and new:
            self._mapping(node, old, new)
        elif new and isinstance(new, dict | list) and not old and not flow:
            # Nothing is there but `key:` or `key: {}`: the value goes below.
            self._edit(self._colon(key), self._end(node), "")
            depth = key.start_mark.column + (self._offset if isinstance(new, list) else 2)
            self._after(self._line_end(self._end(node)), block(new, self._offset), depth)
        else:
            self._edit(self._colon(key), self._end(node), f" {inline(new)}")

    def _sequence(self, node: SequenceNode, old: list[Any], new: list[Any], key: ScalarNode | None) -> None:
        kept = list(_align(old, new))
        matched = {before for before, _ in kept}
        gone = [index for index in range(len(old)) if index not in matched]
        if gone and (node.flow_style or not matched):
            if key is None or node.flow_style:
                self._edit(node.start_mark.index, self._end(node), inline(new))
            else:
                self._edit(self._colon(key), self._end(node), f" {inline(new)}")
            return
        for before, after in kept:
            self.value(node.value[before], old[before], new[after])
        if node.flow_style:
            if [after for _, after in kept] != list(range(len(kept))):
                self._edit(node.start_mark.index, self._end(node), inline(new))
            else:
                self._into_flow(node, [inline(item) for item in new[len(kept) :]])
            return
        dashes = self._dashes(node)
        for index in gone:
            self._edit(self._line_before(dashes[index]), self._line_end(self._end(node.value[index])), "")
        column = dashes[0] - self._line_start(dashes[0])
        position = 0
        for before, after in [*kept, (len(old), len(new))]:
            if items := new[position:after]:
                # After the item before it; the first ones right below the key, above comments on what follows.
                if before:
                    where = self._end(node.value[before - 1])
                elif key is not None:
                    where = key.end_mark.index
                else:
                    raise ManifestError("cannot be edited as text: a list without a key")
                self._after(where, block(items, self._offset), column)
            position = after + 1

    # ---- places

    def _end(self, node: Node) -> int:
        """Right behind the last character that belongs to a node: before a comment and before blank lines."""
        while isinstance(node, CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            before, node = last if isinstance(node, MappingNode) else (None, last)
            if before is not None and node.start_mark.index < before.end_mark.index:  # an alias; its anchor is above
                return self._line_end(before.end_mark.index, comment=False)
        end = node.end_mark.index
        if isinstance(node, ScalarNode) and node.style in {"|", ">"}:
            return end - len(self._newline) if self._text[:end].endswith(self._newline) else end
        return end

    def _dashes(self, node: SequenceNode) -> list[int]:
        """Where the items of a block list begin."""
        dashes = []
        position = self._line_start(node.start_mark.index)
        for item in node.value:
            found = re.compile(r"^ *-(?=\s)", re.MULTILINE).search(self._text, position)
            if found is None or item.start_mark.index < found.start():
                raise ManifestError(f"line {item.start_mark.line + 1}: cannot be edited as text: write out the alias")
            dashes.append(found.end() - 1)
            position = self._line_end(self._end(item))
        return dashes

    def _colon(self, key: ScalarNode) -> int:
        """Behind a key's colon."""
        found = re.compile(r"\s*:").match(self._text, key.end_mark.index)
        if found is None:
            raise ManifestError(f"line {key.start_mark.line + 1}: cannot be edited as text: a key without a colon")
        return found.end()

    def _can_be_cut(self, node: MappingNode, key: ScalarNode) -> bool:
        """It begins a line, rather than the item of a list; in braces, there is one before it."""
        if node.flow_style:
            return node.value[0][0] is not key
        return not self._text[self._line_start(key.start_mark.index) : key.start_mark.index].strip()

    def _line_start(self, position: int) -> int:
        return self._text.rfind("\n", 0, position) + 1

    def _line_before(self, position: int) -> int:
        """The end of the line above, without its newline."""
        return max(self._line_start(position) - len(self._newline), 0)

    def _line_end(self, position: int, *, comment: bool = True) -> int:
        """The end of the line, without its newline; without its comment too, if wanted so."""
        end = self._text.find("\n", position)
        end = len(self._text) if end < 0 else end
        line = self._text[position:end]
        if not comment:
            line = re.split(r"\s#", line)[0]
        return position + len(line.rstrip("\r") if comment else line.rstrip())

    # ---- edits

    def _edit(self, start: int, end: int, text: str) -> None:
        self._edits.append(_Edit(start, end, text))

    def _cut(self, mapping: MappingNode, key: ScalarNode, node: Node) -> None:
        """A key with its value, whole lines; in braces, with the comma before it."""
        if mapping.flow_style:
            index = next(index for index, (one, _) in enumerate(mapping.value) if one is key)
            self._edit(mapping.value[index - 1][1].end_mark.index, node.end_mark.index, "")
        else:
            self._edit(self._line_before(key.start_mark.index), self._line_end(self._end(node)), "")

    def _after(self, position: int, lines: list[str], column: int) -> None:
        """Whole lines below that of the position."""
        where = self._line_end(position)
        self._edit(where, where, "".join(f"{self._newline}{' ' * column}{line}" for line in lines))

    def _into_flow(self, node: CollectionNode, items: list[str]) -> None:
        if node.value:
            last = node.value[-1]
            where = (last[1] if isinstance(last, tuple) else last).end_mark.index
            self._edit(where, where, "".join(f", {item}" for item in items))
        else:
            where = node.end_mark.index - 1
            self._edit(where, where, ", ".join(items))


def _align(old: list[Any], new: list[Any]) -> Iterator[tuple[int, int]]:
    """Which item of the old list is which one of the new, in order: the same value, or else the same name."""
    position = 0
    for after, item in enumerate(new):
        for same in (lambda one, item=item: one is item or one == item, lambda one, item=item: _is_called(one, item)):
            found = next((index for index in range(position, len(old)) if same(old[index])), None)
            if found is not None:
                yield found, after
                position = found + 1
                break


def _is_called(one: Any, other: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    if "name" in one or "name" in other:
        return bool(one.get("name") == other.get("name"))
    names = [(each.get("kind"), (each.get("metadata") or {}).get("name")) for each in (one, other)]
    return names[0] == names[1] != (None, None)
