"""Where an upload goes and how it is secured: authorities, client certificates, HTTP/2, approved hosts, proxies."""

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from pydantic import SecretStr

from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Permanent, Retryable
from sp_proxy.exporter.upload import OtlpHttp, traces_url
from sp_proxy.settings.model import Upload
from tests.certificate_authority import self_signed
from tests.misbehaving_backend import open_backend

PAYLOAD = Payload(b"x", 1, "", 1)


@pytest.fixture
def server_pem(tmp_path):
    return self_signed(tmp_path / "server.pem")


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
    other = self_signed(tmp_path / "other.pem")
    (outcome,) = await Server(server_pem).attempts(ca_file=str(other))
    assert isinstance(outcome, Retryable)
    assert outcome.reason == "connect_error"
    assert "certificate verify failed" in outcome.detail.lower()


async def test_a_client_certificate_is_shown(server_pem, tmp_path):
    client = self_signed(tmp_path / "client.pem")
    server = Server(server_pem, verify_mode=ssl.CERT_REQUIRED, ca_certs=str(client))
    assert await server.attempts(ca_file=str(server_pem), client_cert_file=str(client)) == [Accepted()]
    (refused,) = await Server(server_pem, verify_mode=ssl.CERT_REQUIRED, ca_certs=str(client)).attempts(
        ca_file=str(server_pem)
    )
    assert isinstance(refused, Retryable)


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
