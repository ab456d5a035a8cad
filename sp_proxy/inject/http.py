"""A small HTTP/1.1 client for one address, on asyncio: questions by POST over kept connections, answers bounded.

Not httpx: its asyncio backend (anyio 4) fails where tasks run eagerly, as they do in the mitm worker.
"""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

import certifi
import h11

MAX_IDLE = 32
"""Connections that are kept for the next question."""
_READ = 65536


class AnswerError(Exception):
    """What came is no answer, or too long a one."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self.heard = False
        """Whether anything has come to the present question."""

    async def ask(self, request: h11.Request, body: bytes, max_answer: int) -> tuple[int, bytes]:
        """Raises OSError, h11.RemoteProtocolError, AnswerError."""
        http = self._http
        self.heard = False
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(http.send(event) or b"" for event in events))
        await self._writer.drain()
        status, answer = 0, bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(_READ)
                if not data and not self.heard:
                    raise ConnectionResetError("closed without an answer")
                self.heard = True
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
                if len(answer) > max_answer:
                    raise AnswerError("the answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(answer)
            elif isinstance(event, h11.ConnectionClosed):
                raise AnswerError("closed before the end of the answer")

    def next_one(self) -> bool:
        """Whether it may be asked again."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class HttpClient:
    """Asks one URL. As many connections as questions at a time: who asks bounds them."""

    def __init__(self, url: str, fields: dict[str, str], *, max_answer: int, ca_file: str = "") -> None:
        """``ca_file``: as in ``InjectConfig``. Raises OSError for one that cannot be read."""
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._fields = [("host", parts.netloc.rpartition("@")[2]), *fields.items()]
        self._max_answer = max_answer
        self._context = ssl.create_default_context(cafile=ca_file or certifi.where()) if self._tls else None
        self._idle: list[_Connection] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError (ssl.SSLError is one) and AnswerError."""
        fields = [*self._fields, ("content-length", str(len(body)))]
        request = h11.Request(method="POST", target=self._target, headers=fields)
        while True:
            kept = bool(self._idle)
            connection = self._idle.pop() if kept else await self._connect()
            try:
                answer = await connection.ask(request, body, self._max_answer)
            except OSError:
                connection.close()
                if kept and not connection.heard:
                    continue  # it was closed while it waited: a question that nobody heard is asked once more
                raise
            except h11.RemoteProtocolError as error:
                connection.close()
                raise AnswerError(str(error)) from error
            except BaseException:
                connection.close()
                raise
            if connection.next_one() and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                connection.close()
            return answer

    async def aclose(self) -> None:
        """Close the kept connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
            await connection.closed()

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._context))
