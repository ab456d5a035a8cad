"""Where an upload goes and how it is secured: authorities, client certificates, HTTP/2, approved hosts, proxies."""

import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypercorn.config import Config
from hypercorn.trio import serve
from pydantic import SecretStr

from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Permanent, Retryable
from sp_proxy.exporter.upload import OtlpHttp, tls_context, traces_url
from sp_proxy.settings.model import Upload
from tests.misbehaving_backend import open_backend

PAYLOAD = Payload(b"x", 1, "", 1)


def certificate(path: Path, password: bytes | None = None) -> Path:
    """A key and a certificate for 127.0.0.1 that vouches for itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_pem(tmp_path):
    return certificate(tmp_path / "server.pem")


class Server:
    """A TLS server that offers HTTP/2 and takes everything."""

    def __init__(self, pem: Path, **options: object) -> None:
        self.versions: list[str] = []
        self.config = Config()
        self.config.certfile = self.config.keyfile = str(pem)
        self.config.bind = ["127.0.0.1:0"]
        self.config.errorlog = None
        for name, value in options.items():
            setattr(self.config, name, value)

    async def app(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.versions.append(scope["http_version"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def attempts(self, count: int = 1, **upload: Any):
        """What so many attempts led to."""
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                (url,) = await nursery.start(partial(serve, self.app, self.config, mode="asgi"))
                async with destination(url.replace("http:", "https:"), **upload) as otlp:
                    outcomes = [await otlp.send(PAYLOAD) for _ in range(count)]
                nursery.cancel_scope.cancel()
        return outcomes


def destination(url: str, *, approved: tuple[str, ...] = (), **upload: Any) -> OtlpHttp:
    settings = Upload.model_validate(upload)
    return OtlpHttp(url, SecretStr(""), settings, lambda: 0.0, approved_hosts=approved)


async def test_http2_where_it_is_offered(server_pem):
    server = Server(server_pem)
    assert await server.attempts(3, ca_file=str(server_pem)) == [Accepted()] * 3
    assert server.versions == ["2", "2", "2"]


async def test_http1_where_it_is_not(server_pem):
    server = Server(server_pem, alpn_protocols=["http/1.1"])
    assert await server.attempts(ca_file=str(server_pem)) == [Accepted()]
    assert server.versions == ["1.1"]


async def test_only_the_authorities_of_the_setting_are_trusted(server_pem, tmp_path):
    other = certificate(tmp_path / "other.pem")
    (outcome,) = await Server(server_pem).attempts(ca_file=str(other))
    assert isinstance(outcome, Retryable)
    assert outcome.reason == "connect_error"
    assert "certificate verify failed" in outcome.detail.lower()


async def test_a_client_certificate_is_shown(server_pem, tmp_path):
    client = certificate(tmp_path / "client.pem")
    server = Server(server_pem, verify_mode=ssl.CERT_REQUIRED, ca_certs=str(client))
    assert await server.attempts(ca_file=str(server_pem), client_cert_file=str(client)) == [Accepted()]
    (refused,) = await Server(server_pem, verify_mode=ssl.CERT_REQUIRED, ca_certs=str(client)).attempts(
        ca_file=str(server_pem)
    )
    assert isinstance(refused, Retryable)


def test_what_the_context_asks_for(server_pem):
    for context in (tls_context(Upload()), tls_context(Upload(ca_file=str(server_pem)))):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
    assert len(tls_context(Upload()).get_ca_certs()) > 10


def test_authorities_of_the_environment_are_not_taken(monkeypatch, server_pem):
    usual = len(tls_context(Upload()).get_ca_certs())
    monkeypatch.setenv("SSL_CERT_FILE", str(server_pem))
    assert len(tls_context(Upload()).get_ca_certs()) == usual


@pytest.mark.parametrize("content", [b"", b"not a certificate", None])
def test_files_that_cannot_be_used_are_one_line(tmp_path, content):
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    for name in ("ca_file", "client_cert_file"):
        with pytest.raises(ValueError, match=f"^upload.{name}: {path}: ") as caught:
            tls_context(Upload.model_validate({name: str(path)}))
        assert "\n" not in str(caught.value)


def test_an_encrypted_key_is_refused_and_no_password_is_asked_for(tmp_path):
    path = certificate(tmp_path / "sealed.pem", b"secret")
    with pytest.raises(ValueError, match=r"^upload\.client_cert_file: "):
        tls_context(Upload(client_cert_file=str(path)))


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://good.example@evil.example",
        "https://good.example.evil.example",
        "https://evil.example/good.example",
        "https://evil.example#good.example",
        "https://[::1]",
    ],
)
def test_a_host_that_is_not_approved(url):
    with pytest.raises(ValueError, match=r"approved_backends: .* is not among them"):
        destination(url, approved=("good.example",))


@pytest.mark.parametrize("url", ["https://GOOD.example", "https://good.example.:8443/x", "https://u:p@good.example"])
async def test_a_host_that_is_approved(url):
    async with destination(url, approved=("good.example",)):
        pass


async def test_the_host_is_looked_at_again_for_each_connection():
    async with open_backend() as backend, destination("http://good.example") as otlp:
        otlp._url = traces_url(backend.url)
        assert await otlp.send(PAYLOAD) == Permanent(
            "host_not_approved", "HostNotApprovedError: 127.0.0.1 is not an approved host"
        )
    assert backend.connections == 0


async def test_credentials_of_a_url_are_sent_and_not_shown():
    async with open_backend() as backend:
        url = backend.url.replace("http://", "http://us%40er:pass@")
        async with destination(url) as otlp:
            assert await otlp.send(PAYLOAD) == Accepted()
            assert "pass" not in otlp.origin
    (received,) = backend.received
    assert received.headers["authorization"] == "Basic dXNAZXI6cGFzcw=="
    assert received.headers["host"] == backend.url.removeprefix("http://")


async def test_a_proxy_by_setting():
    async with open_backend() as proxy, destination("http://target.invalid", proxy=proxy.url) as otlp:
        assert await otlp.send(PAYLOAD) == Accepted()
    (received,) = proxy.received
    assert received.target == "http://target.invalid/v1/traces"
