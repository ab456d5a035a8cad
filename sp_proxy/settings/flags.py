"""The command line's layer: ``--set listen.inbound=17006``, and flags of subcommands that stand for one setting.

The value is written as in YAML, so ``--set "netfilter.inbound_exclude_ports=[22, 80]"`` works; where a setting is a
single value, the text is taken as it is, so nothing needs more quotes than the shell's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sp_proxy.settings.document import parse
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath, nearest, part, quoted, resolve
from sp_proxy.settings.layers import Layer, merge, nest, without_nothing

SET = "--set"


@dataclass(frozen=True, slots=True)
class Flag:
    """The value of a setting that has a flag of its own, with the flag's name (``--log-level``)."""

    name: str
    value: Any


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` arguments of ``--set`` by their dotted key; of the same key twice, the last wins.

    Raises SettingsError. The value is not shown in its lines: it may be a secret.
    """
    flags: dict[str, str] = {}
    problems: list[str] = []
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if sign and key.strip():
            flags.pop(key.strip(), None)
            flags[key.strip()] = value
        else:
            shown = f"{part(key.strip())} without a value" if not sign else "a value without a key"
            problems.append(f"{SET}: found {shown}; allowed: KEY=VALUE, for example listen.inbound=17006")
    if problems:
        raise SettingsError(problems)
    return flags


def flag_layer(flags: Mapping[str, Any]) -> Layer:
    """What the command line says: values by dotted key, each as text, as plain data, or as a ``Flag``.

    Raises SettingsError: unknown keys, text that is not YAML where a list or a mapping belongs.
    """
    problems: list[str] = []
    found: dict[KeyPath, tuple[str, Any]] = {}
    for key, value in flags.items():
        name, raw = (value.name, value.value) if isinstance(value, Flag) else (SET, value)
        path = _path(key)
        if resolve(path) is None:
            problems.append(f"{name}: {_shown(path)}: unknown key; nearest known key: {nearest(path)}")
            continue
        try:
            found[path] = name, _value(path, raw, name)
        except SettingsError as error:
            problems += [f"{name}: {_shown(path)}: {problem}" for problem in error.problems]
    if problems:
        raise SettingsError(problems)
    values: dict[str, Any] = {}
    for path in sorted(found, key=len):
        merge(values, without_nothing(nest(path, found[path][1])))
    return Layer("the command line", values, {path: name for path, (name, _) in found.items()})


def _path(key: str) -> KeyPath:
    """The dotted key, in which the name of a tag may have dots of its own."""
    path: KeyPath = ()
    rest = key
    while rest:
        here = resolve(path)
        name, _, rest = (rest, "", "") if here and here.kind == "mapping" else rest.partition(".")
        path = (*path, name)
    return path if key and not key.endswith(".") else (*path, "")


def _shown(path: KeyPath) -> str:
    keys = [str(key) for key in path]
    return ".".join(keys) if all(part(key) == key for key in keys) else quoted(".".join(keys))


def _value(path: KeyPath, raw: Any, name: str) -> Any:
    if not isinstance(raw, str):
        return raw
    here = resolve(path)
    single = here is None or here.kind == "value"
    if single and raw[:1] not in {'"', "'"}:
        return raw
    try:
        documents = parse(raw, name)
    except SettingsError:
        if single:  # text that happens to begin with a quote
            return raw
        raise SettingsError(["found text that is not YAML; allowed: a list or a mapping, as in the file"]) from None
    value = documents[0].value if len(documents) == 1 else None
    return raw if single and not isinstance(value, str) else value
