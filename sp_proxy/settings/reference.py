"""``docs/configuration.md``, written from the model: a test keeps the file equal to it."""

import json
import sys
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sp_proxy.settings.keys import Node, fields, node, variable
from sp_proxy.settings.manifest import UNUSED
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Address, parse_duration, parse_size

_HEAD = """\
# Configuration

Written from `sp_proxy/settings/model.py` (`python -m sp_proxy.settings.reference > docs/configuration.md`).

Settings come from, strongest first:

1. the command line: `--set KEY=VALUE`, for example `--set listen.inbound=17006`
2. the environment: `SP_PROXY_…`, upper or lower case, `__` for one level down; lists and mappings as JSON
3. the file given with `--config`: YAML or JSON, either a bare config or the filter's `WasmPlugin` manifests as published
4. the defaults below

`sp-proxy config check FILE` says what is wrong with a file, `sp-proxy config show --config FILE` what is in force and where
each value came from. An unknown key, variable or value ends the start with one line that says where it stands.

Durations are seconds or have a unit (`200ms`, `5s`, `2m`, `1h`, `7d`), sizes are bytes or have one (`64KiB`, `4MiB`).
An address is a port, which means all addresses of both IP versions, or `HOST:PORT` (`[::1]:3000` for IPv6).
A key that holds nothing counts as absent.

Of a manifest, `spec.pluginConfig` is read, and Kubernetes objects of other kinds in the same file are skipped. Several
plugins, for example one for `server` and one for `client`, become one config which serves both directions; two different
values for the same key are an error. Published manifests also have keys which no version of the filter implements; they
are accepted with a warning (in a bare config, `debug_headers` is a setting):
UNUSED.
"""


_DURATIONS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def document() -> str:
    """The whole text."""
    unused = ", ".join(f"`{key}`" for key in UNUSED)
    text = [_HEAD.replace("UNUSED", unused), *_section(SettingsModel, ""), *_variables()]
    return "\n".join(text).rstrip() + "\n"


def _section(section: type[Section], prefix: str) -> list[str]:
    rows: list[str] = []
    below: list[str] = []
    for name, field in section.model_fields.items():
        here = node(field.annotation)
        path = prefix + name
        inner = node(here.item) if here.kind == "list" else here
        if here.kind != "section":
            rows.append(f"| `{path}` | {_values(field, here)} | {_default(field)} | {field.description} |")
        if inner.kind == "section":
            title = f"{path}[]" if here.kind == "list" else path
            about = " ".join((inner.item.__doc__ or "").split())
            below += [f"## `{title}`", "", about, "", *_section(inner.item, f"{title}.")]
    table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows, ""] if rows else []
    return [*table, *below]


def _values(field: FieldInfo, here: Node) -> str:
    if here.kind in {"list", "mapping"}:
        inner = node(here.item)
        return f"{here.kind} of {'mappings' if inner.kind == 'section' else _name(inner.item, ())}"
    return _name(here.item, tuple(field.metadata))


def _name(annotation: Any, metadata: tuple[Any, ...]) -> str:
    parsers = {getattr(item, "func", None) for item in metadata}
    if parse_duration in parsers:
        return "duration"
    if parse_size in parsers:
        return "size"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    names: dict[Any, str] = {bool: "`true`, `false`", int: "whole number", float: "number", Address: "address"}
    return names.get(annotation, "secret text" if annotation is SecretStr else "text" if annotation is str else "ports")


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return ""
    parsers = {getattr(item, "func", None) for item in field.metadata}
    if parse_duration in parsers:
        return f"`{_with_unit(value, _DURATIONS) if value >= 1 or not value else f'{value * 1000:g}ms'}`"
    if parse_size in parsers:
        return f"`{_with_unit(value, _SIZES)}`"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, list) and value and isinstance(value[0], Section):
        return f"`[{', '.join(json.dumps(item.model_dump(exclude_defaults=True)) for item in value)}]`"
    if isinstance(value, list) and len(value) > 3:
        return "<br>".join(f"`{item}`" for item in value)
    shown = str(value) if isinstance(value, (str, Address)) else json.dumps(value)
    return f"`{shown}`" if shown else "empty"


def _with_unit(value: float, units: tuple[tuple[int, str], ...]) -> str:
    for factor, unit in units:
        if value and value % factor == 0:
            return f"{value // factor:g}{unit}"
    return f"{value:g}"


def _variables() -> list[str]:
    return ["## Environment variables", "", "Every setting's, in the order of the tables:", ""] + [
        f"- `{variable(path)}{'__NAME' if node(field.annotation).kind == 'mapping' else ''}`"
        for path, field in fields()
    ]


if __name__ == "__main__":
    sys.stdout.write(document())
