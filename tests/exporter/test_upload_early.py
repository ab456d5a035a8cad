"""Answers that come before a request was read: each is heard for what it is, over every kind of connection."""

import os
import ssl
from functools import partial
from typing import Any

import pytest
import trio
from pydantic import SecretStr

from sp_proxy.core.http_version import INITIAL_WINDOW
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Permanent, Retryable, TooLarge
from sp_proxy.exporter.upload import OtlpHttp
from sp_proxy.settings.model import Upload
from tests.certificate_authority import CertificateAuthority
from tests.exporter.early_backend import EarlyBackend, Ending, open_early
from tests.exporter.rig import open_rig

HERE = "127.0.0.1"
LARGE = Payload(os.urandom(3 << 20), 10, "", 3 << 20)
SMALL = Payload(b"x" * 60_000, 10, "", 60_000)
"""Fits the first window of HTTP/2."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


def server(authority: CertificateAuthority, *protocols: str) -> ssl.SSLContext:
    """A server's side that offers these by ALPN."""
    context = authority.server(HERE)
    context.set_alpn_protocols(list(protocols))
    return context


def destination(backend: EarlyBackend, authority: CertificateAuthority, **upload: Any) -> OtlpHttp:
    settings = Upload.model_validate({"ca_file": str(authority.ca_file), **upload})
    return OtlpHttp(backend.url, SecretStr(""), settings, lambda: 0.0)


PROTOCOLS: dict[str, tuple[str, ...]] = {
    "cleartext": (),
    "TLS": ("http/1.1",),
    "TLS with HTTP/2": ("h2", "http/1.1"),
}


OUTCOMES: dict[int, Outcome] = {
    413: TooLarge("the backend answered 413"),
    400: Permanent("http_400", "the backend answered 400"),
    503: Retryable("http_503", None, "the backend answered 503"),
    200: Accepted(),
}
CASES: list[tuple[str, Ending]] = [
    ("cleartext", "hold"),
    ("cleartext", "close"),
    ("cleartext", "discard"),
    ("TLS", "hold"),
    ("TLS", "close"),
    ("TLS", "discard"),
    ("TLS with HTTP/2", "hold"),
    ("TLS with HTTP/2", "close"),
    ("TLS with HTTP/2", "discard"),
    ("TLS with HTTP/2", "reset_stream"),
]


@pytest.mark.parametrize("protocols,ending", CASES)
@pytest.mark.parametrize("status", OUTCOMES)
async def test_a_large_request_that_is_answered_early(authority, protocols: str, ending: Ending, status: int):
    if ending == "hold" and status != 413:
        ending = "close"  # holding on takes a second each time
    offered = PROTOCOLS[protocols]
    tls = server(authority, *offered) if offered else None
    with trio.fail_after(60):
        async with open_early(status, ending, tls) as backend, destination(backend, authority) as otlp:
            assert await otlp.send(LARGE) == OUTCOMES[status]
    assert backend.versions == ["1.1"]


@pytest.mark.parametrize("ending", ["close", "discard", "reset_stream"])
async def test_small_requests_over_http2_that_are_answered_early(authority, ending: Ending):
    """What a stream or a connection that has ended costs is one attempt; then HTTP/1.1 has the answers."""
    async with (
        open_early(413, ending, server(authority, "h2", "http/1.1"), limit=100) as backend,
        destination(backend, authority) as otlp,
    ):
        heard = [await otlp.send(SMALL) for _ in range(5)]
    assert backend.versions[0] == "2"
    assert heard[0] == OUTCOMES[413]
    assert sum(isinstance(outcome, Retryable) for outcome in heard) <= (ending != "discard")
    assert heard[2:] == [OUTCOMES[413]] * 3


async def test_http2_whose_connection_has_no_window_left_is_given_up_for_http1(authority):
    """The first request is answered, and its bytes are never given back: the second one waits for window in vain."""
    async with (
        open_early(413, "hold", server(authority, "h2", "http/1.1"), limit=100) as backend,
        destination(backend, authority, read_timeout="300ms") as otlp,
    ):
        heard = [await otlp.send(SMALL) for _ in range(4)]
    assert [type(outcome) for outcome in heard] == [TooLarge, Retryable, TooLarge, TooLarge]
    assert backend.versions == ["2", "2", "1.1", "1.1"]


async def test_small_requests_go_over_http2_and_large_ones_over_http1(authority):
    async with (
        open_early(413, "discard", server(authority, "h2", "http/1.1")) as backend,
        destination(backend, authority) as otlp,
    ):
        for size in (INITIAL_WINDOW, INITIAL_WINDOW + 1, 10):
            assert await otlp.send(Payload(bytes(size), 1, "", size)) == Accepted()
    assert backend.versions == ["2", "1.1", "2"]


async def test_a_server_that_speaks_nothing_but_http2(authority):
    """It ends what was not agreed to be HTTP/2; the next attempt is taken."""
    async with (
        open_early(413, "discard", server(authority, "h2"), only_http2=True, limit=16 << 20) as backend,
        destination(backend, authority) as otlp,
    ):
        heard = [await otlp.send(LARGE) for _ in range(3)]
    assert isinstance(heard[0], Retryable)
    assert heard[1:] == [Accepted(), Accepted()]
    assert backend.versions == ["2", "2"]


@pytest.mark.parametrize("ending", ["hold", "close", "reset_stream"])
async def test_a_batch_that_is_refused_early_is_split_and_delivered(authority, ending: Ending):
    """As a proxy with a limit before a backend does it: a payload of 1.4 MB, 500 kB at once, HTTP/2 offered."""
    rig = partial(
        open_rig,
        upload={"ca_file": str(authority.ca_file), "compression": "none", "concurrency": 1},
        batch={"max_records": 16, "max_size": "8MiB", "flush_timeout": "1h"},
        retry={"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "1h"},
    )
    tls = server(authority, "h2", "http/1.1")
    async with open_early(413, ending, tls, limit=500_000) as backend, rig(backend.url) as running:
        await running.send_records(16, request_body=b"a" * 64_000, request_body_size=64_000)
        stats = await running.settled(16)
    assert (stats.accepted, stats.dropped) == (16, {})
    assert stats.uploads["too_large"] >= 1
    assert backend.taken == stats.uploads["accepted"]
    assert not any(reason.startswith("retryable") for reason in stats.uploads)
