"""What may be shown of a value: nothing of a secret, nothing of the user name and password in a URL.

Everything that prints a setting, an error line included, gets its text from here.
"""

import re
from typing import Any

from pydantic import BaseModel, SecretStr

from sp_proxy.settings.keys import KeyPath, dotted, fields, is_secret, node, quoted, resolve
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import Address

MASK = "***"
_USERINFO = re.compile(r"(?<=//)\S*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_UNSHOWABLE_BITS = 512
"""A longer integer is not shown: CPython refuses to print very long ones."""


def masked_url(url: str) -> str:
    """A URL without the secrets people put into one: userinfo and query. Any other text is fine too."""
    text = _USERINFO.sub(f"{MASK}@", url, count=1)
    if "//" not in text and "@" in text:  # a scheme was forgotten: user:password@host
        text = f"{MASK}@{text.rpartition('@')[2]}"
    return _QUERY.sub(f"?{MASK}", text)


def _holds_url(path: KeyPath) -> bool:
    return path == ("sp_backend_url",) or path[-1:] in {("upstream",), ("url",), ("proxy",)}


def found(value: Any, path: KeyPath) -> str:
    """A few words for what was found at a key path, safe to print, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, (dict, BaseModel)):
        return "a mapping"
    if is_secret(path) or isinstance(value, SecretStr):
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > _UNSHOWABLE_BITS:
        return "a very large number"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (int, Address)):
        return str(value)
    if isinstance(value, str):
        return quoted(masked_url(value) if _holds_url(path) or resolve(path) is None else _userinfo_only(value))
    return f"a {type(value).__name__}"


def _userinfo_only(text: str) -> str:
    return _USERINFO.sub(f"{MASK}@", text)


def masked(settings: SettingsModel) -> dict[str, Any]:
    """The settings in force as plain JSON data, secrets masked; an empty secret stays empty."""
    data: dict[str, Any] = settings.model_dump(mode="json")  # a SecretStr dumps as asterisks
    data["sp_backend_url"] = masked_url(settings.sp_backend_url)
    holders = ((data["upload"], "proxy"), (data["backend"]["clickhouse"], "url"))
    for holder, key in (*holders, *((exporter, "url") for exporter in data["exporters"])):
        holder[key] = masked_url(holder[key]) if holder[key] else holder[key]
    for name in ("inbound", "outbound", "proxy"):
        data["listen"][name] = data["listen"][name] or "off"
    return data


def flat(settings: SettingsModel) -> dict[str, Any]:
    """The same, one entry a setting by dotted key; every entry of a mapping such as ``tags`` is one."""
    data = masked(settings)
    result: dict[str, Any] = {}
    for path, field in fields():
        value: Any = data
        for key in path:
            value = value[key]
        if node(field.annotation).kind == "mapping" and value:
            result.update({dotted((*path, name)): entry for name, entry in value.items()})
        else:
            result[dotted(path)] = value
    return result
