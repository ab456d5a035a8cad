"""Who listens in this network namespace: proc(5), ``net/tcp`` and ``net/tcp6``, which tell the user of every socket."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

_PROC_NET = Path("/proc/thread-self/net")
_LISTEN = "0A"


class Listening(Struct, frozen=True):
    """One listening socket."""

    port: int
    user: int
    inode: int


def listening() -> list[Listening]:
    """All of them."""
    return [found for name in ("tcp", "tcp6") for found in parse(_read(_PROC_NET / name))]


def parse(text: str) -> Iterator[Listening]:
    """The listening sockets of such a file."""
    for words in map(str.split, text.splitlines()[1:]):
        if len(words) > 9 and words[3] == _LISTEN:
            yield Listening(int(words[1].rpartition(":")[2], 16), int(words[7]), int(words[9]))


def process_of(inode: int) -> int | None:
    """The process that has a socket, the oldest if it was inherited; None when that may not be seen."""
    wanted = f"socket:[{inode}]"
    for directory in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if any(str(entry.readlink()) == wanted for entry in (directory / "fd").iterdir()):
                return int(directory.name)
        except OSError:
            continue  # another user's, or gone
    return None


def as_held(found: Sequence[Listening], pid: int) -> list[Listening]:
    """The same, but what this process has is its user's, whoever made it: a socket unit's sockets are root's."""
    process = Path(f"/proc/{pid}")
    try:
        user, held = process.stat().st_uid, {_target(entry) for entry in (process / "fd").iterdir()}
    except OSError:
        return list(found)
    return [msgspec.structs.replace(each, user=user) if f"socket:[{each.inode}]" in held else each for each in found]


def name_of(pid: int) -> str:
    """What a process calls itself; empty when it is gone."""
    return _read(Path(f"/proc/{pid}/comm")).strip()


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
