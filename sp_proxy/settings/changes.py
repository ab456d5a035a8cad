"""What differs between two configurations, and what of it a running daemon cannot take. Pure.

Most settings can change: workers are replaced, exporters are rebuilt. What cannot: addresses that are listened on (redirect
rules and clients know them), the embedded backend, and the heartbeat, which the rules in the kernel expect as it was.
"""

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sp_proxy.settings.keys import KeyPath, dotted, fields, is_secret
from sp_proxy.settings.masking import masked
from sp_proxy.settings.model import SettingsModel

MAX_SHOWN = 120
"""Characters of a value in a log line."""

_FIXED: tuple[tuple[KeyPath, str], ...] = (
    (("listen",), "an address that is listened on stays: restart the daemon"),
    (("admin",), "the admin server stays where it is: restart the daemon"),
    (("backend",), "the embedded backend stays as it is: restart the daemon"),
    (
        ("netfilter", "heartbeat"),
        "the rules in the kernel expect the heartbeat as it was: apply the rules and restart the daemon",
    ),
)
_RULES: KeyPath = ("netfilter",)


class Change(Struct, frozen=True):
    """One setting that is another one now."""

    path: KeyPath
    before: str
    """For a log line: short, without secrets."""
    after: str

    @property
    def key(self) -> str:
        """Its name."""
        return dotted(self.path)

    def __str__(self) -> str:
        if is_secret(self.path) or self.before == self.after:
            return f"{self.key}: changed"
        return f"{self.key}: {self.before} → {self.after}"


def changes(before: SettingsModel, after: SettingsModel) -> list[Change]:
    """Every setting that differs, in the order of the documentation."""
    shown = masked(before), masked(after)
    return [
        Change(path, *(_short(_at(data, path)) for data in shown))
        for path, _ in fields()
        if _held(before, path) != _held(after, path)
    ]


def refusals(before: SettingsModel, after: SettingsModel) -> list[str]:
    """A line for each change that the running daemon cannot take."""
    return list(_refusals(before, after))


def rules_changed(found: list[Change]) -> bool:
    """Whether some of it concerns the redirect rules only, which the daemon does not write."""
    return any(change.path[: len(_RULES)] == _RULES for change in found)


def _refusals(before: SettingsModel, after: SettingsModel) -> Iterator[str]:
    for change in changes(before, after):
        for prefix, reason in _FIXED:
            if change.path[: len(prefix)] == prefix and not _same_addresses(change.path, before, after):
                yield f"{change.key}: cannot change at run time ({change.before} → {change.after}): {reason}"


def _same_addresses(path: KeyPath, before: SettingsModel, after: SettingsModel) -> bool:
    """Forwarding listeners may get another upstream or direction."""
    if path != ("listen", "forward"):
        return False
    return [each.listen for each in before.listen.forward] == [each.listen for each in after.listen.forward]


def _held(settings: SettingsModel, path: KeyPath) -> Any:
    value: Any = settings
    for key in path:
        value = getattr(value, str(key))
    return value


def _at(data: dict[str, Any], path: KeyPath) -> Any:
    value: Any = data
    for key in path:
        value = value[key]
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
