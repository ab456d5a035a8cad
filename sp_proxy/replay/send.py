"""Requests as they were prepared, on the wire: the target and the fields as they are, framing anew, answers bounded."""

import trio
from httpx import URL, AsyncClient, HTTPError, Limits, StreamError, Timeout
from httpx import Request as HttpxRequest

from sp_proxy.exporter.body import decode_body
from sp_proxy.replay.compare import Answer
from sp_proxy.replay.prepare import Request
from sp_proxy.replay.recorded import joined

MAX_ANSWER = 16 << 20
"""Bytes of an answer's body that are read, coded and decoded; more is not compared."""


class NoAnswer(Exception):  # noqa: N818 - not a fault: what it says is compared with what was recorded
    """There was none, and why, in one line. ``connected`` is False when nobody was there."""

    def __init__(self, reason: str, *, connected: bool) -> None:
        super().__init__(reason)
        self.connected = connected


class Sender:
    """Sends, over as many kept connections as are needed at a time."""

    def __init__(self, *, concurrency: int, timeout: float, verify: bool = True) -> None:
        self._timeout = timeout
        self._client = AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=Timeout(timeout),
            limits=Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, request: Request) -> Answer:
        """One request; the whole of it within the time limit. Raises NoAnswer."""
        fields = [(name.encode(), _octets(value)) for name, value in request.fields]
        made = HttpxRequest(
            request.method,
            URL(request.origin),
            headers=fields,
            content=request.body or None,
            # The target as it was recorded: httpx would write it in its own way.
            extensions={"target": _octets(request.target), "timeout": Timeout(self._timeout).as_dict()},
        )
        try:
            with trio.fail_after(self._timeout):
                return await self._exchange(made)
        except trio.TooSlowError:
            raise NoAnswer(f"no answer within {self._timeout:g} seconds", connected=True) from None
        except (HTTPError, StreamError, OSError) as error:
            said = str(error).splitlines()
            reason = f"{type(error).__name__}: {said[0]}" if said and said[0] else type(error).__name__
            raise NoAnswer(reason, connected=type(error).__name__ not in {"ConnectError", "ConnectTimeout"}) from None

    async def _exchange(self, request: HttpxRequest) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER:
                    break
        finally:
            await response.aclose()
        fields = joined(response.headers.raw)
        coding = dict(fields).get("content-encoding", "")
        complete = len(body) <= MAX_ANSWER
        content = bytes(body)
        if coding and content:
            decoded = await trio.to_thread.run_sync(decode_body, content, coding.encode("utf-8", "replace"), MAX_ANSWER)
            if decoded is not None:
                content, complete = decoded.data, complete and decoded.complete
        return Answer(response.status_code, fields, content, complete)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")
