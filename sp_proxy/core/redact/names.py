"""Names in rules: ``password``, ``x-secret-*``. In any case, ``*`` for any text; the first rule that names one decides."""

from collections.abc import Callable, Iterable
from typing import Final

from sp_proxy.core.memo import Memo
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.engine import Engine

MAX_LENGTH: Final = 4096
"""A longer name is cut before it is looked at."""


class Names:
    """Which names are meant, and what becomes of their values."""

    def __init__(
        self, engine: Engine, entries: Iterable[tuple[str, Action]], patterns: Iterable[tuple[str, Action]] = ()
    ) -> None:
        """``entries`` are names with ``*``; ``patterns`` are regular expressions. Raises ValueError for a bad one."""
        self._tests: list[tuple[Callable[[str], bool], Action]] = [
            (engine.searcher(rf"\A{name_pattern(engine, name)}\z"), action) for name, action in entries
        ]
        self._tests += [(engine.searcher(pattern), action) for pattern, action in patterns]
        self._known: Memo[bytes, Action | None] = Memo(1024, 256)

    def __bool__(self) -> bool:
        return bool(self._tests)

    def action(self, name: bytes) -> Action | None:
        """What becomes of the value with this name; None when no rule names it."""
        if not self._tests:
            return None
        try:
            return self._known[name]
        except KeyError:
            lower = name[:MAX_LENGTH].decode("utf-8", "replace").lower()
            found = next((action for matches, action in self._tests if matches(lower)), None)
            return self._known.keep(name, found, len(name))


def name_pattern(engine: Engine, name: str) -> str:
    """The regular expression of a lower-case name in which ``*`` stands for any text."""
    return "(?s:.*)".join(engine.literal(part) for part in name.strip().lower().split("*"))
