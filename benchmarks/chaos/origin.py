"""The application of each pod: answers with what the path asks for, and writes down every request that arrives.

    python -m benchmarks.chaos.origin JOURNAL DESCRIPTOR

It serves the listening socket that it is given, in a process of its own. The journal has a path in each line.
``/…?bytes=N&pieces=M``: an answer of N bytes, in M pieces with a tenth of a second between two. The answer says in
``x-hops`` how many sp_proxies the request has come through.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path
from typing import TextIO
from urllib.parse import parse_qs

from benchmarks.chaos.http import MAX_HEAD, BrokenError, Message, content, read_message

PIECE_PAUSE = 0.1
"""Seconds between two pieces of an answer."""


class Origin:
    """Serves connections."""

    def __init__(self, journal: TextIO) -> None:
        self._journal = journal

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        # A peer that goes away in the middle is what this is all about; the client tells. At the end all are cancelled.
        with contextlib.suppress(OSError, BrokenError, asyncio.CancelledError):
            while (request := await read_message(reader)) is not None:
                await self._answer(request, writer)
                if request.closes:
                    break
        writer.close()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> None:
        target = request.first.split(" ")[1]
        self._journal.write(f"{target.partition('?')[0]}\n")
        asked = parse_qs(target.partition("?")[2])
        size, pieces = (int(asked.get(name, [default])[0]) for name, default in (("bytes", "0"), ("pieces", "1")))
        right = request.body == content(target, int(asked.get("sent", ["0"])[0]))
        status = "200 OK" if right else "400 Bad Request"
        body = content(target, size)
        head = f"HTTP/1.1 {status}\r\ncontent-length: {size}\r\nx-hops: {request.fields.get('x-sp-num', '0')}\r\n\r\n"
        writer.write(head.encode())
        step = -(-size // pieces)
        for index in range(pieces):
            if index:
                await asyncio.sleep(PIECE_PAUSE)
            writer.write(body[index * step : (index + 1) * step])
            await writer.drain()


async def run(journal: Path, listening: socket.socket) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with journal.open("w", 1 << 16) as file:
        server = await asyncio.start_server(Origin(file).serve, sock=listening, limit=MAX_HEAD)
        await stop.wait()
        server.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
