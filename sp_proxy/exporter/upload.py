"""One attempt: a payload goes to one OTLP/HTTP backend, and what came of it comes back as an ``Outcome``.

No retry and no queue here. Redirects are not followed, proxies and credentials of the environment are not used, TLS is
1.2 at least and always verified, no host is talked to that is not approved, and no more of an answer is read than
``MAX_ANSWER_BYTES``. HTTP/2 where a TLS server offers it. Never raises for what a network or a server does.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import httpx
import trio
from pydantic import SecretStr

from sp_proxy import __version__
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Answer, Outcome, Permanent, Retryable, interpret
from sp_proxy.settings.model import Upload

TRACES_PATH = "/v1/traces"
MAX_ANSWER_BYTES = 1 << 20
"""An ``ExportTraceServiceResponse`` is some dozen bytes; only something else is longer."""
CLOSE_SECONDS = 1.0
"""Limit for closing a connection in good manners."""


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


def tls_context(settings: Upload) -> ssl.SSLContext:
    """What is trusted, and who we are. Raises ValueError, one line for a person, for files that cannot be used."""
    try:
        if settings.ca_file:
            context = ssl.create_default_context(cafile=settings.ca_file)
        else:
            context = httpx.create_ssl_context(trust_env=False)  # the authorities that come with httpx
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"upload.ca_file: {settings.ca_file}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_cert_file:
        # A callable that answers nothing: otherwise OpenSSL would ask for an encrypted key's password on the terminal.
        try:
            context.load_cert_chain(settings.client_cert_file, settings.client_key_file or None, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"upload.client_cert_file: {settings.client_cert_file}: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file that can be used").replace("_", " ").lower()
    return error.strerror or str(error)


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
        self._approved = frozenset(approved_hosts) or {_host(self._url)}
        if _host(self._url) not in self._approved:
            raise ValueError(f"approved_backends: {_host(self._url)} is not among them")
        self._timeout = settings.timeout
        self._clock = clock
        headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"sp-proxy/{__version__}",
            "accept-encoding": "identity",
        }
        if key := public_key.get_secret_value():
            if not (key.isascii() and key.isprintable()):
                raise ValueError("public_key: only printable ASCII characters can be sent in a header")
            headers["x-public-key"] = key
        headers |= {name.lower(): value.get_secret_value() for name, value in further_headers.items()}
        self._client = httpx.AsyncClient(
            headers=headers,
            http2=True,
            verify=tls_context(settings),
            proxy=settings.proxy,
            event_hooks={"request": [self._check_host]},
            timeout=httpx.Timeout(
                # For TCP and TLS each: a handshake that the whole limit cancelled would leave its socket to the collector.
                connect=min(settings.connect_timeout, settings.timeout / 2.5),
                write=settings.write_timeout,
                read=settings.read_timeout,
                pool=settings.timeout,
            ),
            limits=httpx.Limits(
                max_connections=settings.concurrency,
                max_keepalive_connections=settings.concurrency,
                keepalive_expiry=60,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            await self._client.aclose()

    @property
    def origin(self) -> str:
        """Scheme, host and port, for the log: no path, query or credentials."""
        return f"{self._url.scheme}://{self._url.netloc.decode('ascii')}"

    async def _check_host(self, request: httpx.Request) -> None:
        """The last look at where a request goes, after all that could have changed it."""
        if _host(request.url) not in self._approved:
            raise HostNotApprovedError(f"{_host(request.url)} is not an approved host")

    async def send(self, payload: Payload) -> Outcome:
        """One attempt, within the time limits of the settings."""
        headers = {"content-length": str(len(payload.body))}
        if payload.encoding:
            headers["content-encoding"] = payload.encoding
        request = self._client.build_request("POST", self._url, headers=headers)
        request.stream = _Body(payload.body)
        deadline = trio.current_time() + self._timeout
        response = None
        try:
            with trio.move_on_at(deadline):
                response = await self._client.send(request, stream=True)
        except HostNotApprovedError as error:
            return Permanent("host_not_approved", _line(error))
        except (httpx.TransportError, OSError) as error:
            return Retryable(_token(error), detail=_line(error))
        if response is None:
            return Retryable("timeout", detail=f"no answer within {self._timeout:g} s")
        try:
            body, unreadable = await _body(response, deadline)
        finally:
            with trio.move_on_after(CLOSE_SECONDS):  # a closing TLS connection may wait for a peer that does not read
                await response.aclose()
        return interpret(_answer(response, body, unreadable), payload.records, self._clock())


class HostNotApprovedError(Exception):
    """A request to a host that is not in ``approved_backends``. Nothing was sent."""


class _Body(httpx.AsyncByteStream):
    """A request's body in one piece. httpx's own is a generator, which is left unfinished when a write fails."""

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


def _host(url: httpx.URL) -> str:
    """As ``approved_backends`` has it."""
    return url.raw_host.decode("ascii").rstrip(".").lower().removeprefix("[").removesuffix("]")


async def _body(response: httpx.Response, deadline: float) -> tuple[bytes | None, str]:
    """The body as sent, or None and why not. Once the status is here it decides, so a body that fails is a remark and
    not an outcome: sending again what a 2xx acknowledged would only make duplicates.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return None, "the answer has a content-encoding that was not asked for"
    body = bytearray()
    try:
        with trio.move_on_at(deadline) as scope:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    # Not ``break``: httpx nests generators, and only an exception from within closes all of them.
                    scope.cancel()
    except (httpx.TransportError, OSError) as error:
        return None, f"the answer ended early: {_line(error)}"
    if len(body) > MAX_ANSWER_BYTES:
        return None, f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
    if scope.cancelled_caught:
        return None, "the answer did not end in time"
    return bytes(body), ""


def _answer(response: httpx.Response, body: bytes | None, unreadable: str) -> Answer:
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        retry_after=response.headers.get("retry-after", ""),
        location=response.headers.get("location", ""),
        body=body,
        unreadable=unreadable,
    )


def _token(error: Exception) -> str:
    """``ConnectTimeout`` as ``connect_timeout``: httpx's names are a short, stable list."""
    name = type(error).__name__ if isinstance(error, httpx.TransportError) else "os_error"
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


def _line(error: BaseException) -> str:
    """One line for a person; httpx leaves it to the cause to say what was wrong with a certificate."""
    name = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if text := " ".join(str(cause).split()):
            return f"{name}: {text}"
        cause = cause.__cause__ or cause.__context__
    return name
