"""Values for what was redacted, from the environment or from files, and the places for which they are (pure but for these).

A secret is named by its place, ``header:authorization``, ``query:token``, ``form:password`` or ``json:$.user.pin``, and by
where it is found, ``env:NAME`` or ``file:PATH``: never by its value, which a command line would show to everyone.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import quote

from msgspec import Struct

from sp_proxy.core.redact import json_paths
from sp_proxy.core.redaction import NEVER_SENT
from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.problems import ReplayError

Kind = Literal["header", "query", "form", "json"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ALLOWED = "header:NAME, query:NAME, form:NAME or json:PATH, then = and env:NAME or file:PATH"
MAX_BYTES = 64 << 10
_PAIR = re.compile(r"(?:(?<=[?&])|\A)([^=?&#]+)=([^&#]*)")


class Secret(Struct, frozen=True):
    """One value, and where it goes."""

    kind: Kind
    name: str
    """Of a header field in lower case; of JSON, the path."""
    value: str


def parse(texts: Iterable[str], environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Secrets as a command line names them. Raises ReplayError."""
    return tuple(_parse(text, environ) for text in texts)


def _parse(text: str, environ: Mapping[str, str]) -> Secret:
    # The source stands behind the last one of these: a JSON path may have = in it.
    found = re.fullmatch(r"(?s)([a-z]+):(.+?)=(env|file):(.+)", text)
    if found is None or found[1] not in KINDS:
        shown = text.partition("=")[0][:64]  # what follows may be a secret all the same
        raise ReplayError(f"--secret: found {shown!r}; allowed: {ALLOWED}")
    kind, name = cast("Kind", found[1]), found[2]
    if kind == "json":
        try:
            json_paths.parse(name)
        except ValueError as error:
            raise ReplayError(f"--secret json:{name}: allowed: {error}") from None
    value = _value(text.partition("=")[0], found[3], found[4], environ)
    return Secret(kind, name.lower() if kind == "header" else name, value)


def _value(shown: str, source: str, where: str, environ: Mapping[str, str]) -> str:
    if source == "env":
        if where not in environ:
            raise ReplayError(f"--secret {shown}: the variable {where} is not set")
        return environ[where]
    try:
        with Path(where).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ReplayError(f"--secret {shown}: {where} is larger than {MAX_BYTES >> 10} KiB")
        return data.decode().rstrip("\r\n")
    except OSError as error:
        raise ReplayError(f"--secret {shown}: {where}: {(error.strerror or 'cannot be read').lower()}") from None
    except ValueError:
        raise ReplayError(f"--secret {shown}: {where} is not UTF-8 text") from None


class Filled(Struct, frozen=True):
    """A request with its secrets, and where it still has none (empty: nowhere)."""

    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    lacking: str


def fill(
    target: str,
    fields: tuple[tuple[str, str], ...],
    body: bytes,
    secrets: tuple[Secret, ...],
    placeholders: Placeholders,
) -> Filled:
    """Put the secrets where something was redacted. A header field which is never captured is added."""
    named = {secret.name: secret.value for secret in secrets if secret.kind == "header"}
    filled = [
        (name, named[name] if name in named and placeholders.stand_in(value) else value) for name, value in fields
    ]
    there = {name for name, _ in fields}
    filled += [(name, value) for name, value in named.items() if name in NEVER_SENT and name not in there]
    path, mark, query = target.partition("?")
    target = path + mark + _fill_pairs(query, _of(secrets, "query"), placeholders, plus=False)
    body = _fill_body(dict(fields).get("content-type", ""), body, secrets, placeholders)
    return Filled(target, tuple(filled), body, _lacking(target, filled, body, placeholders))


def _of(secrets: tuple[Secret, ...], kind: Kind) -> dict[str, str]:
    return {secret.name: secret.value for secret in secrets if secret.kind == kind}


def _fill_pairs(text: str, named: Mapping[str, str], placeholders: Placeholders, *, plus: bool) -> str:
    if not named:
        return text

    def pair(found: re.Match[str]) -> str:
        if found[1] in named and placeholders.stand_in(found[2]):
            value = quote(named[found[1]], safe="")
            return f"{found[1]}={value.replace('%20', '+') if plus else value}"
        return found[0]

    return _PAIR.sub(pair, text)


def _fill_body(content_type: str, body: bytes, secrets: tuple[Secret, ...], placeholders: Placeholders) -> bytes:
    if content_type.lower().startswith("application/x-www-form-urlencoded"):
        text = body.decode("latin-1")
        return _fill_pairs(text, _of(secrets, "form"), placeholders, plus=True).encode("latin-1")
    named = _of(secrets, "json")
    if not named or not body:
        return body
    try:
        top = json_paths.Place([json_paths.decode(body)], 0)
    except ValueError:
        return body
    changed = False
    for path, value in named.items():
        for place in json_paths.places(top, json_paths.parse(path)):
            if isinstance(place.value, str) and placeholders.stand_in(place.value):
                place.holder[place.key] = value
                changed = True
    return json_paths.encode(top.value) if changed else body


def _lacking(target: str, fields: list[tuple[str, str]], body: bytes, placeholders: Placeholders) -> str:
    for name, value in fields:
        if placeholders.stand_in(value):
            return f"the field {name} (--secret header:{name}=env:NAME)"
    if placeholders.stand_in(target):
        return "the target (--secret query:NAME=env:NAME)"
    if placeholders.stand_in(body.decode("utf-8", "replace")):
        return "the body (--secret json:PATH=env:NAME or form:NAME=env:NAME)"
    return ""
