"""Header fields as hooks see them. Its docstrings are the reference of ``docs/addons.md``."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Final, Self, override

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


class Headers(MutableMapping[str, str]):
    """Header fields: a mapping by name in any case. A field that stands there several times reads as one value, joined
    by commas. Setting one puts it in the place of all of its name; ``del`` takes them away.
    """

    def __init__(self, block: bytes) -> None:
        self._block: bytes | None = block
        self._changed: dict[str, None] = {}
        self._lines = [
            (name, value.strip(b" \t"))
            for name, colon, value in (line.partition(b":") for line in block.split(b"\r\n"))
            if colon and name
        ]

    @override
    def __getitem__(self, name: str) -> str:
        key = name.lower().encode()
        found = [value for each, value in self._lines if each.lower() == key]
        if not found:
            raise KeyError(name)
        return b", ".join(found).decode("utf-8", "replace")

    @override
    def __setitem__(self, name: str, value: str) -> None:
        laid = self._laid(name, value)
        key = name.lower().encode()
        self._put([line for line in self._lines if line[0].lower() != key], name, laid)

    @override
    def __delitem__(self, name: str) -> None:
        key = name.lower().encode()
        kept = [line for line in self._lines if line[0].lower() != key]
        if len(kept) == len(self._lines):
            raise KeyError(name)
        self._check(name)
        self._lines = kept
        self._block = None
        self._changed[name.lower()] = None

    def add(self, name: str, value: str) -> None:
        """One more field, beside those of its name."""
        self._put(self._lines, name, self._laid(name, value))

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("utf-8", "replace") for name, _ in self._lines))

    @override
    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._lines})

    def block(self) -> bytes:
        """As in a record."""
        if self._block is None:
            self._block = b"".join([b"%b: %b\r\n" % line for line in self._lines])
        return self._block

    @property
    def changed(self) -> list[str]:
        """Lower-case names that were set, added or taken away."""
        return list(self._changed)

    def lines(self, name: str) -> list[bytes]:
        """The values of all fields of this name."""
        key = name.lower().encode()
        return [value for each, value in self._lines if each.lower() == key]

    def copy(self) -> Self:
        """Another one like it is now."""
        other = type(self)(b"")
        other.__dict__.update(self.__dict__, _changed=dict(self._changed))
        return other

    def _laid(self, name: str, value: str) -> bytes:
        self._check(name)
        if not _TOKEN.fullmatch(name):
            raise ValueError("not the name of a header field")
        laid = str(value).encode("utf-8", "replace").strip(b" \t")
        if b"\r" in laid or b"\n" in laid or b"\0" in laid:
            raise ValueError("a header field's value is one line")
        return laid

    def _put(self, lines: list[tuple[bytes, bytes]], name: str, laid: bytes) -> None:
        self._lines = [*lines, (name.encode(), laid)]
        self._block = None
        self._changed[name.lower()] = None

    def _check(self, name: str) -> None:
        """Raises ValueError for a name that may not be changed."""
