"""The environment's layer: ``SP_PROXY_LISTEN__INBOUND=16006``.

The names are not case-sensitive; ``__`` goes one level down. Numbers, switches and text stand as they are; lists and
mappings are JSON, and a whole section may be JSON as well (a variable for one of its keys then wins over it). Under
``tags`` the name of the tag is in lower case. The environment comes in as a mapping; nothing here reads the process's.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import (
    ENVIRONMENT_PREFIX,
    ENVIRONMENT_SEPARATOR,
    KeyPath,
    nearest_variable,
    part,
    resolve,
)
from sp_proxy.settings.layers import Layer, merge, nest, without_nothing

_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""What Kubernetes (and Docker's links) put into every pod of a namespace for a Service called ``sp-proxy`` or
``sp-proxy-…``. They are not meant for us, and a Service of that name must not end our start."""


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """What the environment says. Raises SettingsError: unknown variables, the same twice, broken JSON."""
    problems: list[str] = []
    found: dict[KeyPath, tuple[str, Any]] = {}
    for name in sorted(environ):
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        path = _path(name)
        if path is None:
            if not _SERVICE_LINK.fullmatch(name.upper().removeprefix(ENVIRONMENT_PREFIX)):
                problems.append(f"{part(name)}: unknown variable; nearest known variable: {nearest_variable(name)}")
            continue
        if path in found:
            problems.append(f"{part(name)}: the same setting as {part(found[path][0])}; allowed: one of them")
            continue
        try:
            found[path] = name, text_value(path, environ[name])
        except ValueError as error:
            problems.append(f"{part(name)}: {error}")
    if problems:
        raise SettingsError(problems)
    values: dict[str, Any] = {}
    for path in sorted(found, key=len):
        merge(values, without_nothing(nest(path, found[path][1])))
    return Layer("the environment", values, {path: name for path, (name, _) in found.items()})


def _path(name: str) -> KeyPath | None:
    path: KeyPath = ()
    for word in name[len(ENVIRONMENT_PREFIX) :].split(ENVIRONMENT_SEPARATOR):
        here = resolve(path)
        if here is None or here.kind in {"list", "value"} or not word:
            return None
        if here.kind == "mapping":
            path = (*path, word.lower())
            continue
        known = {field.upper(): field for field in here.item.model_fields}
        if word.upper() not in known:
            return None
        path = (*path, known[word.upper()])
    return path


def text_value(path: KeyPath, text: str) -> Any:
    """A setting's value from text: as it stands, or from JSON where a list or a mapping belongs. Raises ValueError."""
    here = resolve(path)
    if here is None or here.kind == "value":
        return text
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        what = "list" if here.kind == "list" else "mapping"
        raise ValueError(f"found no JSON ({error.msg}, column {error.colno}); allowed: a {what} as JSON") from None
    except RecursionError:
        raise ValueError("found JSON nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {part(twice)} is given twice")
    return result
