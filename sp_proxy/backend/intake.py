"""``POST /v1/traces`` and ``/v1/logs``: OTLP/HTTP requests into the store, answered when they are durable; ``/v1/inject``: out of it.

Nothing is decoded on the event loop. What waits is bounded by ``Budget``: over it, senders are told to come back (429
with ``Retry-After``, which OTLP senders obey), so a slow disk costs them time and never this process its memory.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import structlog
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sp_proxy.backend import content, otlp, spans
from sp_proxy.backend.guard import Guard
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.inject import Injection, query_of, response_of
from sp_proxy.backend.logs import ReadLogs, read_logs
from sp_proxy.backend.model import StoreError
from sp_proxy.backend.otlp import Code, Encoding, Signal
from sp_proxy.backend.store import Store
from sp_proxy.inject.wire import read_lookup

BODY_TIMEOUT = 60.0
"""Seconds for a whole request body: a sender slower than that holds a connection for nothing."""
RETRY_AFTER = "1"
STORING = 8
"""Requests that are decoded and stored at a time. Others wait as the bytes that they are, which the budget counts."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


type _Reader[R] = Callable[[bytes, Encoding, str], R]


class OverloadedError(Exception):
    """More request bytes are in hand than the budget allows."""


class Budget:
    """Bytes of request bodies in hand, all requests together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """One request's part, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.used -= share.held


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def take(self, size: int) -> None:
        """Hold more. Raises OverloadedError."""
        if self._budget.used + size > self._budget.limit:
            raise OverloadedError
        self._budget.used += size
        self.held += size


class Intake:
    """The handler, with what it needs: the store, the hub for live updates, and its limits."""

    def __init__(self, store: Store, hub: Hub, guard: Guard, *, max_request_size: int) -> None:
        self._store = store
        self._hub = hub
        self._guard = guard
        self._max_size = max_request_size
        self.budget = Budget(4 * max_request_size)
        self._decoders = trio.CapacityLimiter(2)
        self._storing = trio.Semaphore(STORING)
        self._injection = Injection(store)

    async def traces(self, request: Request) -> Response:
        """Answer one export request of spans."""

        def read(body: bytes, encoding: Encoding, tenant: str) -> spans.Read:
            message = otlp.decode(otlp.TRACES, encoding, body)
            return spans.read_request(message, tenant=tenant, now_unix_ns=time.time_ns())

        async def keep(found: spans.Read) -> None:
            self._hub.publish((await self._store.append(found.batch)).exchanges)

        return await self._answer(request, partial(self._kept, otlp.TRACES, read, keep))

    async def logs(self, request: Request) -> Response:
        """Answer one export request of log records."""

        def read(body: bytes, encoding: Encoding, tenant: str) -> ReadLogs:
            message = otlp.decode(otlp.LOGS, encoding, body)
            return read_logs(message, tenant=tenant, now_unix_ns=time.time_ns())

        async def keep(found: ReadLogs) -> None:
            await self._store.append_logs(found.batch)

        return await self._answer(request, partial(self._kept, otlp.LOGS, read, keep))

    async def inject(self, request: Request) -> Response:
        """Answer one look-up of a stored answer. Raises ParameterError."""
        narrowed = query_of(request)

        async def serve(body: bytes, encoding: Encoding, _tenant: str) -> Response:
            lookup = read_lookup(await self._off_loop(otlp.decode_traces, encoding, body))
            if lookup is None:
                return refusal(encoding, 400, Code.INVALID_ARGUMENT, "there is no span whose sp.span.type is inject")
            stored = await self._injection.answer(lookup, narrowed)
            self._hub.answers_given += stored is not None
            self._hub.answers_missing += stored is None
            return response_of(encoding, lookup, stored)

        return await self._answer(request, serve)

    async def _kept[R: (spans.Read, ReadLogs)](
        self,
        signal: Signal[Any],
        read: _Reader[R],
        keep: Callable[[R], Awaitable[None]],
        body: bytes,
        encoding: Encoding,
        tenant: str,
    ) -> Response:
        async with self._storing:
            found = await self._off_loop(read, body, encoding, tenant)
            await keep(found)
        answer = otlp.encode_accepted(signal, encoding, rejected=found.rejected, reason=found.reason)
        return Response(answer, media_type=encoding.value)

    async def _answer(self, request: Request, serve: Callable[[bytes, Encoding, str], Awaitable[Response]]) -> Response:
        encoding = otlp.encoding_of(request.headers.get("content-type", ""))
        if encoding is None:
            allowed = " or ".join(known.value for known in Encoding)
            return refusal(Encoding.JSON, 415, Code.INVALID_ARGUMENT, f"content-type must be {allowed}")
        tenant = request.headers.get("x-public-key", "")
        if not self._guard.may_send(tenant, request.headers.get("authorization", "")):
            return refusal(encoding, 401, Code.UNAUTHENTICATED, "x-public-key or the bearer token is missing or wrong")
        try:
            with self.budget.share() as share:
                body = await self._body(request, encoding, share)
                if isinstance(body, Response):
                    return body
                return await serve(body, encoding, tenant)
        except OverloadedError:
            message = "too much is waiting to be stored, try again later"
            return refusal(encoding, 429, Code.RESOURCE_EXHAUSTED, message, {"retry-after": RETRY_AFTER})
        except content.TooLargeError:
            message = f"the request is larger than {self._max_size} bytes, decompressed"
            return refusal(encoding, 413, Code.RESOURCE_EXHAUSTED, message)
        except content.CorruptError as error:
            return refusal(encoding, 400, Code.INVALID_ARGUMENT, f"content-encoding: unreadable data ({error})")
        except otlp.TooManyError as error:
            return refusal(encoding, 413, Code.RESOURCE_EXHAUSTED, str(error))
        except otlp.UnreadableError as error:
            return refusal(encoding, 400, Code.INVALID_ARGUMENT, str(error))
        except trio.TooSlowError:
            message = f"the body did not arrive within {BODY_TIMEOUT:.0f} seconds"
            return refusal(encoding, 408, Code.DEADLINE_EXCEEDED, message, {"connection": "close"})
        except StoreError as error:
            log.warning("batch_not_stored", reason=str(error))
            return refusal(encoding, 503, Code.UNAVAILABLE, str(error), {"retry-after": RETRY_AFTER})
        except ClientDisconnect:
            return refusal(encoding, 400, Code.INVALID_ARGUMENT, "the request ended early")

    async def _body(self, request: Request, encoding: Encoding, share: Share) -> bytes | Response:
        """The decoded body, or why it is refused unread."""
        coding = request.headers.get("content-encoding", "")
        decoder = content.decoder_for(coding, self._max_size)
        if decoder is None:
            known = ", ".join(content.CODINGS)
            message = f"content-encoding must be one of {known}, or absent"
            return refusal(encoding, 415, Code.INVALID_ARGUMENT, message, {"accept-encoding": known})
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and len(announced) < 20 and int(announced) > self._max_size:
            raise content.TooLargeError
        body = bytearray()
        # What decodes to nothing (empty members of gzip, for example) is no reason to read on for ever.
        left = self._max_size + self._max_size // 8 + 1024
        with trio.fail_after(BODY_TIMEOUT):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        raise content.TooLargeError
                    if chunk:
                        piece = await self._off_loop(decoder.feed, chunk) if coding else decoder.feed(chunk)
                        share.take(len(piece))
                        body += piece
        decoder.finish()
        return bytes(body)

    async def _off_loop[*Args, R](self, work: Callable[[*Args], R], *args: *Args) -> R:
        # The limit also bounds what decompression may hold before the budget has counted it.
        return await trio.to_thread.run_sync(work, *args, limiter=self._decoders)


def refusal(
    encoding: Encoding, status: int, code: Code, message: str, headers: dict[str, str] | None = None
) -> Response:
    """An error answer as OTLP has it."""
    body = otlp.encode_status(encoding, code, message)
    return Response(body, status_code=status, headers=headers, media_type=encoding.value)
