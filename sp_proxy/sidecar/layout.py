"""How new values are written into a YAML text (pure): in lines of their own, or inside braces."""

import json
import re
from typing import Any

import yaml
from yaml.nodes import CollectionNode, Node, ScalarNode, SequenceNode

from sp_proxy.sidecar.documents import ManifestError

_AMBIGUOUS = re.compile(r"[yYnN]|[-+]?[.\d][\da-fA-FxXoO_.+:-]*")
"""Text that Kubernetes' reader may take for a truth value or a number (``1e3``) where our parser does not."""
_TEXT_TAG = "tag:yaml.org,2002:str"
_KEPT_TOGETHER = 1 << 16
"""Columns: longer lines are not folded."""


def list_offset(nodes: list[Node]) -> int:
    """How far a text sets a list in, below its key: by the first one that is there."""
    for node in nodes:
        waiting = [node]
        seen: set[int] = set()
        while waiting:
            here = waiting.pop(0)
            if id(here) in seen or not isinstance(here, CollectionNode) or here.flow_style:
                continue
            seen.add(id(here))
            if isinstance(here, SequenceNode):
                waiting += here.value
                continue
            for key, value in here.value:
                if isinstance(value, SequenceNode) and not value.flow_style:
                    return max(0, int(value.start_mark.column) - int(key.start_mark.column))
                waiting.append(value)
    return 2


class _Dumper(yaml.SafeDumper):
    """Block style in the order given."""

    offset = 2

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """As its parent's, but lists may be set in."""
        super().increase_indent(flow, indentless and not self.offset)

    def ignore_aliases(self, data: Any) -> bool:
        """Whatever stands twice is written twice."""
        del data
        return True


class _FlushDumper(_Dumper):
    offset = 0


def _text(dumper: yaml.SafeDumper, data: str) -> ScalarNode:
    tag = dumper.resolve(ScalarNode, data, (True, False))  # type: ignore[no-untyped-call]
    plain = tag == _TEXT_TAG and not _AMBIGUOUS.fullmatch(data)
    style = None if plain else '"'
    return dumper.represent_scalar(_TEXT_TAG, data, style=style)


_Dumper.add_representer(str, _text)


def block(value: Any, offset: int) -> list[str]:
    """A mapping or a list, in lines."""
    dumper = _Dumper if offset else _FlushDumper
    return yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=_KEPT_TOGETHER).splitlines()


def inline(value: Any) -> str:
    """Any value as JSON, which is YAML."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        raise ManifestError("cannot be edited as text: a value that JSON does not have") from None
