import asyncio
import contextlib
import socket
import ssl
import threading

import pytest

from sp_proxy.inject.http import AnswerError, HttpClient
from tests.mitm.certificates import write_certificate
from tests.replay.origins import Given, Got, origin


def answer(got: Got) -> Given:
    return 200 + len(got.body) % 10, {}, got.body * 2


def test_kept_connections_and_what_is_sent():
    async def ask(url: str) -> list[tuple[int, bytes]]:
        client = HttpClient(f"{url}/v1/x?q=1", {"x-a": "b"}, max_answer=100)
        found = [await client.post(b"a"), await client.post(b"")]
        found += await asyncio.gather(*(client.post(b"abc") for _ in range(5)))
        with pytest.raises(AnswerError):
            await client.post(b"x" * 60)
        await client.aclose()
        return found

    with origin(answer) as there:
        assert asyncio.run(ask(there.url)) == [(201, b"aa"), (200, b""), *[(203, b"abcabc")] * 5]
    first = there.got[0]
    assert (first.method, first.target) == ("POST", "/v1/x?q=1")
    assert (first.header("host"), first.header("x-a")) == (there.url.removeprefix("http://"), "b")


def test_tls_is_verified(tmp_path):
    certificate = write_certificate(tmp_path / "own.pem", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def ask(url: str, ca_file: str) -> tuple[int, bytes]:
        client = HttpClient(url, {}, max_answer=100, ca_file=ca_file)
        try:
            return await client.post(b"a")
        finally:
            await client.aclose()

    assert asyncio.run(ask(serve([OK], context), str(certificate))) == (200, b"ok")
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(ask(serve([OK], context), ""))


def serve(answers: list[bytes], tls: ssl.SSLContext | None = None) -> str:
    """One connection for each answer, closed behind it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listening:
            for each in answers:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    stream = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    with stream:
                        stream.recv(65536)
                        stream.sendall(each)

    threading.Thread(target=run, daemon=True).start()
    port = listening.getsockname()[1]
    return f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_a_connection_that_was_closed_while_it_waited():
    async def ask(url: str) -> list[tuple[int, bytes]]:
        client = HttpClient(url, {}, max_answer=100)
        found = [await client.post(b"a"), await client.post(b"b")]
        await client.aclose()
        return found

    assert asyncio.run(ask(serve([OK, OK]))) == [(200, b"ok")] * 2


@pytest.mark.parametrize(
    "said, error",
    [(b"", OSError), (b"what?\r\n\r\n", AnswerError), (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", AnswerError)],
)
def test_what_is_no_answer(said, error):
    async def ask(url: str) -> None:
        client = HttpClient(url, {}, max_answer=100)
        with pytest.raises(error):
            await client.post(b"a")
        await client.aclose()

    asyncio.run(ask(serve([said])))
