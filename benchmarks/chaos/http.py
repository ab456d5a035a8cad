"""What clients and origins of the chaos run say to each other: HTTP/1.1 over asyncio's streams, with lengths, nothing else.

A message's content is its path again and again, so that each end knows what the other one must have sent, byte for byte.
"""

import asyncio
from dataclasses import dataclass

MAX_HEAD = 65536


class BrokenError(Exception):
    """The connection ended, or said what no peer of ours says. The message is one line."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response, read to its end."""

    first: str
    """Request or status line."""
    fields: dict[str, str]
    """By lower-case name; of several the last one."""
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return self.fields.get("connection", "").lower() == "close"


def content(path: str, size: int) -> bytes:
    """So many bytes that belong to this path."""
    unit = path.encode() + b" "
    return (unit * (size // len(unit) + 1))[:size]


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next one; None when the connection ends before it. Raises BrokenError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise BrokenError(f"ended within the head, after {len(error.partial)} bytes") from error
    except asyncio.LimitOverrunError as error:
        raise BrokenError("the head is too long") from error
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    try:
        body = await _body(reader, fields)
    except asyncio.IncompleteReadError as error:
        raise BrokenError("ended within the body") from error
    return Message(first, fields, body)


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    """By its length, or in chunks: Envoy's own answers may have either."""
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)  # no trailers: nobody here sends them
    return body
