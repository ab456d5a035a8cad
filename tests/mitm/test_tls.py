"""Whose TLS is opened: the memory of rejections alone, and everything else with a real worker and real handshakes."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, TlsConfig
from sp_proxy.mitm.tls import MAX_REMEMBERED, Rejections
from tests.mitm.certificates import write_certificate
from tests.mitm.origins import Origin, fields, read_head, read_until
from tests.mitm.running_mitm import RunningMitm


def test_a_rejection_is_remembered_for_a_while():
    rejections = Rejections(10.0)
    assert rejections.remember("10.0.0.1", "a.test", 0.0)
    assert rejections.has("10.0.0.1", "a.test", 9.9)
    assert not rejections.has("10.0.0.1", "b.test", 9.9)
    assert not rejections.has("10.0.0.2", "a.test", 9.9)
    assert not rejections.has("10.0.0.1", "a.test", 10.0)


def test_zero_seconds_remember_nothing():
    rejections = Rejections(0.0)
    assert not rejections.remember("10.0.0.1", "a.test", 0.0)
    assert not rejections.has("10.0.0.1", "a.test", 0.0)


def test_the_memory_is_bounded_and_forgets_the_oldest():
    rejections = Rejections(10.0)
    for number in range(MAX_REMEMBERED + 1):
        rejections.remember("10.0.0.1", f"{number}.test", 0.0)
    assert not rejections.has("10.0.0.1", "0.test", 0.0)
    assert rejections.has("10.0.0.1", "1.test", 0.0)


def peer_names(sock: ssl.SSLSocket) -> list[str]:
    certificate = sock.getpeercert()
    assert certificate is not None
    names = certificate["subjectAltName"]
    assert isinstance(names, tuple)
    return [str(name[1]) for name in names]


def test_our_certificate_has_the_names_of_the_origin_s(intercepting: RunningMitm, tls_origin: Origin, authority: Path):
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(tls_origin.accept)
        with (
            intercepting.connect_tls(tls_origin.address, "shop.test", authority / CA_CERTIFICATE_FILE) as client,
            accepting.result(),
        ):
            assert "shop.test" in peer_names(client)


@pytest.mark.parametrize("server_name", ["bank.test", "shop.example"])
def test_what_is_not_to_be_opened_shows_the_origin_s_own_certificate(
    intercepting: RunningMitm, tmp_path: Path, server_name: str
):
    own = write_certificate(tmp_path / "own.pem", server_name)
    with Origin(own) as origin, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(origin.accept)
        with intercepting.connect_tls(origin.address, server_name, own) as client, accepting.result() as upstream:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(upstream) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert read_head(client) == b"HTTP/1.1 204 No Content\r\n\r\n"
        port = origin.address[1]
    assert intercepting.exchanges == []
    intercepting.counter(f"raw_connections:{port}:tls", 1)
    intercepting.counter(f"tls_connections:{port}", 1)
    intercepting.counter(f"tls_server_names:{server_name}", 1)


def test_a_client_that_rejects_our_certificate_is_passed_through_next_time(
    authority: Path, certificate: Path, tls_origin: Origin
):
    tls = TlsConfig(intercept=("shop",), ca_directory=str(authority), trusted_file=str(certificate))
    with RunningMitm(tls=tls) as worker, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(tls_origin.accept)
        with pytest.raises(ssl.SSLCertVerificationError):
            worker.connect_tls(tls_origin.address, "shop.test", certificate)
        accepting.result().close()
        worker.counter("tls_failed:client", 1)
        accepting = pool.submit(tls_origin.accept)
        with worker.connect_tls(tls_origin.address, "shop.test", certificate) as client, accepting.result() as upstream:
            client.sendall(b"ping")
            assert upstream.recv(4) == b"ping"
        worker.counter("tls_passed_through:certificate_rejected", 1)


def test_an_origin_whose_certificate_is_not_valid_is_not_spoken_to(
    intercepting: RunningMitm, authority: Path, tmp_path: Path
):
    stranger = write_certificate(tmp_path / "stranger.pem", "shop.test")
    with Origin(stranger) as origin, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(origin.accept)
        with intercepting.connect_tls(origin.address, "shop.test", authority / CA_CERTIFICATE_FILE) as client:
            with pytest.raises(OSError, match=r"SSL|reset|EOF"):
                accepting.result()
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            head = read_head(client)
            assert head.startswith(b"HTTP/1.1 502 ")
            length = int(fields(head)["content-length"])
            body = read_until(client, b"</html>")
            assert len(body) <= length
            assert b"Certificate verify failed" in body
    intercepting.wait(lambda: intercepting.counters.get("tls_failed:server", 0) >= 1)
    exchange = intercepting.exchange()
    assert (exchange.status, exchange.error) == (0, "upstream_unreachable")
