"""What the exporter and the process of a capture hook say to each other: length-prefixed msgpack, as in ``channel/frames``.

What comes from the hook's process is foreign: it is read into these types or not at all, and names only what a hook may
change. Records themselves never come back.
"""

import re
import socket
from typing import Final

from msgspec import Struct, msgpack

from sp_proxy.channel.frames import LENGTH, MAX_FRAME_BYTES
from sp_proxy.core.exchange import Exchange

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""Of a tag."""
METRIC: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
LABEL: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
MAX_LABELS = 8

Labels = tuple[tuple[str, str], ...]

MAX_COPIES = 32
"""Records that one may be split into."""
MAX_TAGS = 32
MAX_TEXT = 1024
"""Characters of a tag's value, a label or a name; longer ones are cut."""
MAX_SAID = 20
"""Lines that an addon may print for each ``Task``."""


class Setup(Struct, frozen=True, array_like=True):
    """The first message: what to run."""

    name: str
    path: str
    text: str
    call_budget: float
    """Seconds."""
    max_memory: int
    """Bytes of address space."""


class Fault(Struct, frozen=True, array_like=True):
    """A call that went wrong. What an exception says is left out: it may hold what was captured."""

    kind: str
    """Name of the exception's class; ``too slow``."""
    line: int
    """In the addon's file; 0 where none of it was running."""


class Loaded(Struct, frozen=True, array_like=True, tag=0):
    """The answer to ``Setup``."""

    fault: Fault | None = None


class Task(Struct, frozen=True, array_like=True):
    """Records to call the hook with."""

    exchanges: list[Exchange]
    seconds: float
    """Time for all of them."""


class Changed(Struct, frozen=True, array_like=True):
    """A record that goes on in the place of one in the task; several in the place of one are its parts."""

    of: int
    """Its place in the task."""
    service_name: bytes
    target: bytes
    authority: bytes
    client_address: str
    name: str
    tags: Labels
    request_fields: bytes
    request_body: bytes
    request_body_size: int
    response_fields: bytes
    response_body: bytes
    response_body_size: int


class Emitted(Struct, frozen=True, array_like=True):
    """A metric's change."""

    name: str
    labels: Labels
    amount: float
    observations: int
    """0 for a counter; else so many values, whose sum is ``amount``."""


class Done(Struct, frozen=True, array_like=True, tag=1):
    """The answer to ``Task``. Records in none of the lists go on as they are."""

    replaced: list[int]
    """Those that ``changed`` has others for, or none: dropped."""
    changed: list[Changed]
    failed: list[int]
    """The hook raised, or was too slow."""
    skipped: list[int]
    """There was no time left to call it."""
    faults: list[Fault]
    emitted: list[Emitted]
    said: list[str]
    seconds: float
    """That the calls took."""


Answer = Loaded | Done

encode = msgpack.Encoder().encode
decode_setup = msgpack.Decoder(Setup).decode
decode_task = msgpack.Decoder(Task).decode
decode_answer = msgpack.Decoder(Answer).decode


def clean(value: object, limit: int = MAX_TEXT) -> str:
    """A value as text that can be sent: of bounded length, lone surrogates as question marks."""
    return str(value)[:limit].encode("utf-8", "replace").decode()


def add_tag(tags: dict[str, str], name: str, value: object) -> None:
    """One more ``sp.tag.NAME``. Raises ValueError, a line for the author of a hook."""
    if not NAME.fullmatch(name):
        raise ValueError("the name of a tag has 1 to 64 letters, digits, _ . -")
    if name not in tags and len(tags) >= MAX_TAGS:
        raise ValueError(f"more than {MAX_TAGS} tags")
    tags[name] = clean(value)


def frame(message: Struct) -> bytes:
    """The bytes of one message. Raises ValueError for one that nobody would take."""
    payload = encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes (limit {MAX_FRAME_BYTES})")
    return LENGTH.pack(len(payload)) + payload


def length(head: bytes) -> int:
    """Of the payload behind the four bytes. Raises ValueError."""
    size: int = LENGTH.unpack(head)[0]
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes (limit {MAX_FRAME_BYTES})")
    return size


def is_sound(done: Done, count: int) -> bool:
    """Whether the places that an answer names are some."""
    replaced = set(done.replaced)
    parts: dict[int, int] = {}
    for each in done.changed:
        parts[each.of] = parts.get(each.of, 0) + 1
    return (
        all(0 <= place < count for place in (*done.replaced, *done.failed, *done.skipped))
        and all(each in replaced and number <= MAX_COPIES for each, number in parts.items())
        and len(set(done.skipped)) == len(done.skipped)
        and all(_fits(each.tags, NAME, MAX_TAGS) and len(each.name) <= MAX_TEXT for each in done.changed)
        and all(METRIC.fullmatch(each.name) and _fits(each.labels, LABEL, MAX_LABELS) for each in done.emitted)
        and all(len(each.kind) <= MAX_TEXT for each in done.faults)
    )


def _fits(pairs: Labels, name: re.Pattern[str], most: int) -> bool:
    return (
        len(pairs) <= most
        and all(name.fullmatch(key) and len(value) <= MAX_TEXT for key, value in pairs)
        and len(dict(pairs)) == len(pairs)
    )


def read(sock: socket.socket) -> bytes:
    """One payload from a blocking socket; empty at its end."""
    head = _exactly(sock, LENGTH.size)
    return _exactly(sock, length(head)) if head else b""


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        if not piece:
            return b""
        data += piece
    return bytes(data)
