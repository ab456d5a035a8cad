"""What in the file of ``sp-proxy dev`` is not of the kind that it should be, in plain words (pure)."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

type Keys = Mapping[str, tuple[Any, str]]
"""What each key may have, as a type and in words."""

_PORT: Final = "a port, as a number without quotes"
FILE: Final[Keys] = {
    "service": (list[dict[str, Any]], "tables, each begun by [[service]]"),
    "host_ports": (list[int], "a list of ports: [5432]"),
}
SERVICE: Final[Keys] = {
    "name": (str, "text in quotes"),
    "command": (str | list[str], 'a line for the shell in quotes, or words: ["npm", "start"]'),
    "port": (int, _PORT),
    "to": (int, _PORT),
    "directory": (str, "text in quotes"),
    "env": (dict[str, str], 'variables with text in quotes: {NAME = "value"}'),
    "health": (str, "a path in quotes"),
}
_NEEDED: Final = ("name", "command")
_MAX_SHOWN: Final = 60


def mistakes(data: Mapping[str, Any]) -> Iterator[str]:
    """A line each, in the order of the file; none for a file whose values are all of the right kind."""
    yield from _of_table(data, FILE, "")
    services = data.get("service")
    for number, service in enumerate(services if isinstance(services, list) else (), 1):
        if not isinstance(service, dict):
            continue
        name = service.get("name")
        where = f"service {name}: " if isinstance(name, str) and name.isprintable() and name else f"service {number}: "
        yield from _of_table(service, SERVICE, where)
        yield from (f"{where}{key}: is missing" for key in _NEEDED if key not in service)


def _of_table(table: Mapping[str, Any], keys: Keys, where: str) -> Iterator[str]:
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            known = f"did you mean {near[0]}?" if near else f"known: {', '.join(keys)}"
            yield f"{where}{key[:40]!r}: unknown key; {known}"
            continue
        kind, words = keys[key]
        try:
            msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            yield f"{where}{key}: found {_shown(value)}; allowed: {words}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
