"""One attempt, against a real server that misbehaves."""

import gzip
import ssl

import pytest
import trio
from pydantic import SecretStr

from sp_proxy import __version__
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Partial, Permanent, Retryable
from sp_proxy.exporter.upload import MAX_ANSWER_BYTES, OtlpHttp, traces_url
from sp_proxy.settings.model import Upload
from tests.misbehaving_backend import (
    answer,
    close_without_answer,
    cut_answer,
    huge_answer,
    never_answer,
    open_backend,
    partial_success,
    refused_url,
    reset_within_head,
    reset_without_answer,
    slow_body,
    speak_no_http,
)

NOW_UNIX = 1_700_000_000.0
PAYLOAD = Payload(gzip.compress(b""), 10, "gzip", 0)


def destination(url: str, key: str = "pk-secret", **settings) -> OtlpHttp:
    return OtlpHttp(url, SecretStr(key), Upload(**settings), lambda: NOW_UNIX)


async def attempt(*behaviours, **settings):
    """One attempt for each behaviour; what they led to, and the backend."""
    with trio.fail_after(20):
        async with open_backend(*behaviours) as backend, destination(backend.url, **settings) as otlp:
            return [await otlp.send(PAYLOAD) for _ in behaviours], backend


@pytest.mark.parametrize(
    "base,url",
    [
        ("http://host", "http://host/v1/traces"),
        ("http://host/", "http://host/v1/traces"),
        ("https://host:8443//", "https://host:8443/v1/traces"),
        ("https://host/otlp", "https://host/otlp/v1/traces"),
        ("https://host/otlp/", "https://host/otlp/v1/traces"),
        ("https://host/v1/traces", "https://host/v1/traces"),
        ("https://host/v1/traces/", "https://host/v1/traces"),
        ("https://host/otlp/v1/traces", "https://host/otlp/v1/traces"),
        ("https://host/a?tenant=1#top", "https://host/a/v1/traces?tenant=1"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_url(base, url):
    assert str(traces_url(base)) == url


@pytest.mark.parametrize("base", ["", "host:4318", "ftp://host", "http://", "http://host:port", "/v1/traces"])
def test_what_is_no_url_is_refused_in_one_line(base):
    with pytest.raises(ValueError, match="sp_backend_url") as caught:
        traces_url(base)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["line\nbreak", "ключ", "nul\0"])
def test_a_public_key_that_cannot_be_sent_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match="public_key") as caught:
        destination("http://host", key)
    assert key not in str(caught.value)


async def test_the_request():
    _, backend = await attempt(answer())
    (received,) = backend.received
    assert (received.method, received.target, received.body) == ("POST", "/v1/traces", PAYLOAD.body)
    assert received.headers["content-type"] == "application/x-protobuf"
    assert received.headers["content-encoding"] == "gzip"
    assert received.headers["x-public-key"] == "pk-secret"
    assert received.headers["user-agent"] == f"sp-proxy/{__version__}"


async def test_no_key_and_no_compression_send_no_such_headers():
    async with open_backend() as backend, destination(backend.url, key="") as otlp:
        assert await otlp.send(Payload(b"", 1, "", 0)) == Accepted()
    assert not {"x-public-key", "content-encoding"} & set(backend.received[0].headers)


async def test_connections_are_kept():
    _, backend = await attempt(answer(), answer(503), answer(400), answer())
    assert [received.connection for received in backend.received] == [1, 1, 1, 1]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_accepted(status):
    outcomes, _ = await attempt(answer(status))
    assert outcomes == [Accepted()]


async def test_partial_success():
    outcomes, _ = await attempt(partial_success(4, "too old"))
    assert outcomes == [Accepted(Partial(4, "too old"))]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_permanent(status):
    ((outcome,), _) = await attempt(answer(status, b"why", content_type="text/plain"))
    assert isinstance(outcome, Permanent)
    assert outcome.reason == f"http_{status}"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retryable(status):
    ((outcome,), _) = await attempt(answer(status))
    assert isinstance(outcome, Retryable)
    assert (outcome.reason, outcome.after) == (f"http_{status}", None)


@pytest.mark.parametrize("value", ["30", "Tue, 14 Nov 2023 22:13:50 GMT"])
async def test_retry_after(value):
    ((outcome,), _) = await attempt(answer(429, retry_after=value))
    assert isinstance(outcome, Retryable)
    assert outcome.after == 30.0


async def test_redirects_are_not_followed():
    async with open_backend() as elsewhere:
        ((outcome,), _) = await attempt(answer(307, location=elsewhere.url + "/v1/traces"))
        assert isinstance(outcome, Permanent)
        assert elsewhere.url in outcome.detail
    assert not elsewhere.received


async def test_refused():
    async with destination(refused_url()) as otlp:
        outcome = await otlp.send(PAYLOAD)
    assert isinstance(outcome, Retryable)
    assert outcome.reason == "connect_error"
    assert "\n" not in outcome.detail


async def test_a_name_that_does_not_resolve():
    async with destination("http://backend.invalid") as otlp:
        outcome = await otlp.send(PAYLOAD)
    assert isinstance(outcome, Retryable)
    assert outcome.reason == "connect_error"


@pytest.mark.parametrize(
    "behaviour,reason",
    [
        (reset_without_answer, "read_error"),
        (reset_within_head, "read_error"),
        (close_without_answer, "remote_protocol_error"),
        (speak_no_http, "remote_protocol_error"),
    ],
)
async def test_no_answer_is_retryable_and_the_next_attempt_works(behaviour, reason):
    (first, second), _ = await attempt(behaviour, answer())
    assert isinstance(first, Retryable)
    assert first.reason == reason
    assert second == Accepted()


async def test_never_answered_ends_with_the_read_timeout():
    (first, second), _ = await attempt(never_answer, answer(), read_timeout="300ms")
    assert isinstance(first, Retryable)
    assert first.reason == "read_timeout"
    assert second == Accepted()


async def test_the_whole_attempt_has_a_limit():
    (first, second), backend = await attempt(never_answer, answer(), timeout="1s")
    assert isinstance(first, Retryable)
    assert first.reason == "timeout"
    assert second == Accepted()
    assert backend.connections == 2


@pytest.mark.parametrize("behaviour", [cut_answer(), slow_body(), huge_answer(4 * MAX_ANSWER_BYTES)])
async def test_once_the_status_says_accepted_the_rest_of_the_answer_cannot_change_it(behaviour):
    (first, second), backend = await attempt(behaviour, answer(), timeout="1s")
    assert isinstance(first, Accepted)
    assert first.unreadable
    assert second == Accepted()
    assert backend.connections == 2


@pytest.mark.parametrize("behaviour", [cut_answer(503), slow_body(503), huge_answer(4 * MAX_ANSWER_BYTES, 503)])
async def test_nor_what_the_status_says_is_retryable(behaviour):
    (first, second), _ = await attempt(behaviour, answer(), timeout="1s")
    assert isinstance(first, Retryable)
    assert first.reason == "http_503"
    assert second == Accepted()


async def test_invalid_protobuf_in_the_answer():
    ((outcome,), _) = await attempt(answer(200, b"\xff\xff", content_type="application/x-protobuf"))
    assert isinstance(outcome, Accepted)
    assert outcome.unreadable


async def test_an_encoded_answer_is_not_decoded():
    ((outcome,), _) = await attempt(answer(200, gzip.compress(b"x"), content_encoding="gzip"))
    assert isinstance(outcome, Accepted)
    assert "content-encoding" in outcome.unreadable


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, refused_url())
    outcomes, _ = await attempt(answer())
    assert outcomes == [Accepted()]


async def test_tls_is_verified(self_signed):
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, self_signed, host="127.0.0.1")
        port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        nursery.start_soon(trio.serve_listeners, _handshake, listeners)
        async with destination(f"https://127.0.0.1:{port}") as otlp:
            outcome = await otlp.send(PAYLOAD)
        nursery.cancel_scope.cancel()
    assert isinstance(outcome, Retryable)
    assert outcome.reason == "connect_error"
    assert "certificate" in outcome.detail.lower()


async def _handshake(stream: trio.SSLStream[trio.SocketStream]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()


@pytest.fixture
def self_signed(tmp_path):
    """A server context whose certificate nobody vouches for."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


async def test_the_origin_shows_no_credentials():
    async with destination("https://user:password@host:8443/path?secret=1") as otlp:
        assert otlp.origin == "https://host:8443"
