"""One attempt: a payload goes to one OTLP/HTTP backend, and what came of it comes back as an ``Outcome``.

No retry and no queue here. Redirects are not followed, proxies and credentials of the environment are not used, TLS is
1.2 at least and always verified, no host is talked to that is not approved, and no more of an answer is read than
``MAX_ANSWER_BYTES``. An answer that comes before the request was written is heard (``network.py``). Never raises for
what a network or a server does.

Over TLS, what is small goes over HTTP/2 where it is offered, and what is large over HTTP/1.1 (``core/http_version.py``).
Measured on loopback with TLS, CPU of this side for an upload: 4 KiB 0.7 ms over either, 40 KiB 0.7 over HTTP/1.1 and 1.1
over HTTP/2, 300 KiB 1 and 3.5, 4 MiB 6 and 66; and over HTTP/2 each 64 KiB wait for the server's leave, a round trip each.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import httpcore
import httpx
import trio
from pydantic import SecretStr

from sp_proxy import __version__
from sp_proxy.core.http_version import Version, VersionChoice
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.network import HostNotApprovedError, host_name
from sp_proxy.exporter.outcome import Answer, Outcome, Permanent, Retryable, interpret
from sp_proxy.exporter.pools import connection_pools, core_url
from sp_proxy.settings.model import Upload

TRACES_PATH = "/v1/traces"
MAX_ANSWER_BYTES = 1 << 20
"""An ``ExportTraceServiceResponse`` is some dozen bytes; only something else is longer."""
CLOSE_SECONDS = 1.0
"""Limit for closing all connections at the end."""


class Send(Protocol):
    """What a delivery needs of a destination: try once."""

    async def send(self, payload: Payload) -> Outcome:
        """One attempt. Raises nothing that the destination or the way to it could cause."""


def traces_url(base: str) -> httpx.URL:
    """``POST`` goes here: the base with ``/v1/traces``, unless it ends so already. Keeps a path prefix and a query.

    Raises ValueError for what is not an http or https URL.
    """
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL as error:
        raise ValueError(f"sp_backend_url: not a URL ({error})") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("sp_backend_url: not a URL of the form https://HOST[:PORT][/PATH]")
    path = url.path.rstrip("/")
    return url.copy_with(path=path if path.endswith(TRACES_PATH) else path + TRACES_PATH, fragment=None)


class OtlpHttp:
    """An OTLP/HTTP backend with kept-alive connections. An async context manager; leaving it closes them."""

    def __init__(
        self,
        base_url: str,
        public_key: SecretStr,
        settings: Upload,
        clock: Callable[[], float],
        *,
        further_headers: Mapping[str, SecretStr] = MappingProxyType({}),
        approved_hosts: Collection[str] = (),
    ) -> None:
        """``clock`` tells the wall clock's unix time, which a ``Retry-After`` date is compared with. No hosts approved
        means the URL's own.

        Raises ValueError for a URL, a public key or a header which cannot be sent, and for TLS files.
        """
        self._url = traces_url(base_url)
        host = host_name(self._url.raw_host.decode("ascii"))
        if host not in (frozenset(approved_hosts) or {host}):
            raise ValueError(f"approved_backends: {host} is not among them")
        self._timeout = settings.timeout
        self._clock = clock
        headers = {
            "host": self._url.netloc.decode("ascii"),
            "content-type": "application/x-protobuf",
            "user-agent": f"sp-proxy/{__version__}",
            "accept": "*/*",
            "accept-encoding": "identity",
        }
        if self._url.userinfo:
            credentials = f"{self._url.username}:{self._url.password}".encode()
            headers["authorization"] = f"Basic {b64encode(credentials).decode('ascii')}"
        if key := public_key.get_secret_value():
            if not (key.isascii() and key.isprintable()):
                raise ValueError("public_key: only printable ASCII characters can be sent in a header")
            headers["x-public-key"] = key
        headers |= {name.lower(): value.get_secret_value() for name, value in further_headers.items()}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._limits = {
            # For TCP and TLS each, so that the whole limit does not come first: its reason would say less.
            "connect": min(settings.connect_timeout, settings.timeout / 2.5),
            "write": settings.write_timeout,
            "read": settings.read_timeout,
            "pool": settings.timeout,
        }
        self._pools = connection_pools(self._url, settings)
        self._choice = VersionChoice()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for pool in self._pools.values():
            await self._open.enter_async_context(pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            await self._open.aclose()

    @property
    def origin(self) -> str:
        """Scheme, host and port, for the log: no path, query or credentials."""
        return f"{self._url.scheme}://{self._url.netloc.decode('ascii')}"

    async def send(self, payload: Payload) -> Outcome:
        """One attempt, within the time limits of the settings."""
        began = trio.current_time()
        deadline = began + self._timeout
        version: Version = self._choice.choose(len(payload.body), began) if "2" in self._pools else "1.1"
        response: httpcore.Response | None = None
        try:
            with trio.move_on_at(deadline):
                response = await self._pools[version].handle_async_request(self._request(payload))
        except HostNotApprovedError as error:
            return Permanent("host_not_approved", _line(error))
        except Exception as error:  # noqa: BLE001 (also a fault of the library's: the payload is not to blame for it)
            self._unanswered(version, error)
            return Retryable(_token(error), detail=_line(error))
        if response is None:
            self._unanswered(version)
            return Retryable("timeout", detail=f"no answer within {self._timeout:g} s")
        self._choice.answered(version)
        try:
            body, unreadable = await _body(response, deadline)
        finally:
            with suppress(Exception):  # it has been answered, however the connection fares
                await response.aclose()
        return interpret(_answer(response, body, unreadable), payload.records, self._clock())

    def _request(self, payload: Payload) -> httpcore.Request:
        own = [(b"content-length", b"%d" % len(payload.body))]
        if payload.encoding:
            own.append((b"content-encoding", payload.encoding.encode()))
        return httpcore.Request(
            "POST",
            core_url(self._url),
            headers=[*self._headers, *own],
            content=_Body(payload.body),
            extensions={"timeout": self._limits},
        )

    def _unanswered(self, version: Version, error: Exception | None = None) -> None:
        """The next request may fare better over the other version. A server that cannot be reached says nothing of
        HTTP/2; but one that speaks nothing else may refuse a TLS handshake without it.
        """
        if version == "1.1" or not isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
            self._choice.unanswered(version, trio.current_time())


class _Body:
    """A request's body in one piece. httpcore's own is a generator, which is left unfinished when a write fails."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._data)


class _Once:
    """An iterator over one piece."""

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece] if piece else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


async def _body(response: httpcore.Response, deadline: float) -> tuple[bytes | None, str]:
    """The body as sent, or None and why not. Once the status is here it decides, so a body that fails is a remark and
    not an outcome: sending again what a 2xx acknowledged would only make duplicates.
    """
    if (_field(response, b"content-encoding") or "identity").lower() != "identity":
        return None, "the answer has a content-encoding that was not asked for"
    body = bytearray()
    try:
        with trio.move_on_at(deadline) as scope:
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    # Not ``break``: httpcore nests generators, and only an exception from within closes all of them.
                    scope.cancel()
    except Exception as error:  # noqa: BLE001 (whatever fails here, the status is known)
        return None, f"the answer ended early: {_line(error)}"
    if len(body) > MAX_ANSWER_BYTES:
        return None, f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
    if scope.cancelled_caught:
        return None, "the answer did not end in time"
    return bytes(body), ""


def _answer(response: httpcore.Response, body: bytes | None, unreadable: str) -> Answer:
    return Answer(
        status=response.status,
        content_type=_field(response, b"content-type"),
        retry_after=_field(response, b"retry-after"),
        location=_field(response, b"location"),
        body=body,
        unreadable=unreadable,
    )


def _field(response: httpcore.Response, name: bytes) -> str:
    """The value of a header field, by its lower-case name; empty without."""
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _token(error: Exception) -> str:
    """``ConnectTimeout`` as ``connect_timeout``: httpcore's names are a short, stable list."""
    if isinstance(error, OSError):
        return "os_error"
    if not type(error).__module__.startswith("httpcore"):
        return "client_error"
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(error).__name__).strip("_")


def _line(error: BaseException) -> str:
    """One line for a person; it may be left to the cause to say what was wrong with a certificate."""
    name = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if text := " ".join(str(cause).split()):
            return f"{name}: {text}"
        cause = cause.__cause__ or cause.__context__
    return name
