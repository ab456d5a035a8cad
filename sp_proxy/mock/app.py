"""The mock as an ASGI application: answers from a book, and keeps account of what it had and what it lacked.

What was asked and not known is answered with 501 and the reason, or goes on to ``fallthrough``. Every answer says in ``x-sp-mock``
where it is from.
"""

from collections import Counter
from collections.abc import Iterable

import trio
from httpx import URL, AsyncClient, HTTPError, Limits, Request, StreamError
from msgspec import Struct
from starlette.types import Message, Receive, Scope, Send

from sp_proxy.mock.answer import given
from sp_proxy.mock.book import AnswerBook, Asked, Hit
from sp_proxy.replay.prepare import OF_ONE_CONNECTION

MARK = b"x-sp-mock"
MAX_BODY = 16 << 20
MAX_MISSES = 1000
"""Different requests that are listed; further ones are only counted."""
_TIMEOUT = 60.0


class Account(Struct):
    """What came of the requests."""

    exact: int = 0
    by_rules: int = 0
    missed: int = 0
    forwarded: int = 0
    """Of those that were missed."""
    misses: Counter[tuple[str, str]] = Counter()
    """Request and reason of those that were missed, and how often."""


class Mock:
    """The application. ``as_recorded``: an answer begins as late as the recorded one did."""

    def __init__(self, book: AnswerBook, *, fallthrough: str = "", as_recorded: bool = False) -> None:
        self.account = Account(misses=Counter())
        self._book = book
        self._fallthrough = fallthrough
        self._as_recorded = as_recorded
        self._client = AsyncClient(
            trust_env=False, follow_redirects=False, timeout=_TIMEOUT, limits=Limits(max_connections=64)
        )

    async def aclose(self) -> None:
        """Close the connections to ``fallthrough``."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            await _plain(send, 413, b"miss", f"a body of {MAX_BODY} bytes at most is needed\n")
            return
        raw: bytes = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        host = next((value for name, value in headers if name == b"host"), b"")
        asked = Asked(scope["method"], host.decode("latin-1"), raw.decode("utf-8", "replace"), body)
        # In this task and without a pause, so that two requests at the same time get two answers.
        found = self._book.find(asked)
        if isinstance(found, Hit):
            await self._give(found, asked, send)
            return
        self.account.missed += 1
        key = (f"{asked.method} {asked.target}"[:500], found.reason)
        if key in self.account.misses or len(self.account.misses) < MAX_MISSES:
            self.account.misses[key] += 1
        if self._fallthrough:
            await self._forward(asked, raw, headers, send)
        else:
            text = f"sp-proxy mock has no answer to {asked.method} {asked.target}: {found.reason}\n"
            await _plain(send, 501, b"miss", text)

    async def _give(self, found: Hit, asked: Asked, send: Send) -> None:
        self.account.exact += found.exact
        self.account.by_rules += not found.exact
        answer = given(found.recorded)
        if self._as_recorded:
            await trio.sleep(answer.after)
        fields = [(name.encode(), value.encode()) for name, value in answer.fields]
        await _respond(
            send, answer.status, fields, answer.body, b"hit " + found.recorded.span_id.encode(), asked.method
        )

    async def _forward(self, asked: Asked, raw: bytes, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self.account.forwarded += 1
        kept = [(name, value) for name, value in headers if name.decode("latin-1") not in OF_ONE_CONNECTION]
        url = URL(self._fallthrough)
        request = Request(
            asked.method,
            url,
            headers=[(b"host", url.netloc), *kept],
            content=asked.body or None,
            extensions={"target": url.raw_path.rstrip(b"/") + raw},
        )
        try:
            response = await self._client.send(request, stream=True)
        except (HTTPError, StreamError, OSError) as error:
            await _plain(
                send, 502, b"fallthrough", f"sp-proxy mock: {self._fallthrough}: {str(error) or type(error).__name__}\n"
            )
            return
        content = bytearray()
        try:
            async for piece in response.aiter_raw():
                content += piece
                if len(content) > MAX_BODY:
                    break
        except (HTTPError, StreamError, OSError):
            await _plain(send, 502, b"fallthrough", f"sp-proxy mock: {self._fallthrough}: the answer broke off\n")
            return
        finally:
            await response.aclose()
        if len(content) > MAX_BODY:
            text = f"sp-proxy mock: {self._fallthrough}: an answer of more than {MAX_BODY} bytes\n"
            await _plain(send, 502, b"fallthrough", text)
            return
        fields = [(name.lower(), value) for name, value in response.headers.raw]
        fields = [(name, value) for name, value in fields if name.decode("latin-1") not in OF_ONE_CONNECTION]
        await _respond(send, response.status_code, fields, bytes(content), b"fallthrough", asked.method)


async def _body(receive: Receive) -> bytes | None:
    """The request's body; None when it is too large."""
    body = bytearray()
    more = True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


async def _plain(send: Send, status: int, mark: bytes, text: str) -> None:
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    await _respond(send, status, fields, text.encode("utf-8", "replace"), mark)


async def _respond(
    send: Send, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes, mark: bytes, method: str = "GET"
) -> None:
    headers = [*fields, (MARK, mark)]
    if method == "HEAD" or status in {204, 304}:
        body = b""
    else:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
