"""HTTP inside intercepted TLS, through a real worker: the bytes pass as between two ends that talk directly."""

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sp_proxy.core.admission import AdmissionConfig
from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, TlsConfig
from sp_proxy.taps.sniff import PREFACE
from tests.mitm.origins import Origin, fields, read_all, read_head, read_until
from tests.mitm.running_mitm import RunningMitm

REQUEST = b"GET /a?b HTTP/1.1\r\nHost: shop.test\r\n\r\n"


@pytest.fixture
def ends(intercepting: RunningMitm, tls_origin: Origin, authority: Path):
    """A client and its origin, both inside TLS."""
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(tls_origin.accept)
        client = intercepting.connect_tls(tls_origin.address, "shop.test", authority / CA_CERTIFICATE_FILE, "http/1.1")
        with client, accepting.result() as upstream:
            yield client, upstream


def test_an_exchange(ends: tuple[ssl.SSLSocket, ssl.SSLSocket], intercepting: RunningMitm, tls_origin: Origin):
    client, upstream = ends
    assert client.selected_alpn_protocol() == upstream.selected_alpn_protocol() == "http/1.1"
    client.sendall(REQUEST)
    seen = fields(read_head(upstream))
    assert seen["x-sp-service-name"] == "orders"
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert read_until(client, b"ok") == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    exchange = intercepting.exchange()
    assert (exchange.scheme, exchange.protocol_version, exchange.target) == ("https", "1.1", b"/a?b")
    assert (exchange.server_address, exchange.server_port) == tls_origin.address
    assert exchange.span_id.hex() == seen["traceparent"].split("-")[2]


def test_trailers_interim_responses_and_expectations_pass(ends, intercepting: RunningMitm):
    client, upstream = ends
    client.sendall(b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert fields(read_head(upstream))["expect"] == "100-continue"
    upstream.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
    assert read_head(client) + read_head(client) == (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    )
    body = b"2;ext=1\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"
    client.sendall(body)
    assert read_until(upstream, b"\r\n\r\n") == body
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-End: y\r\n\r\n"
    upstream.sendall(answer)
    assert read_until(client, b"X-End: y\r\n\r\n") == answer
    exchange = intercepting.exchange()
    assert (exchange.request_trailers, exchange.response_trailers) == (b"X-Sum: 1\r\n", b"X-End: y\r\n")


def test_a_response_that_ends_with_the_connection(ends, intercepting: RunningMitm):
    client, upstream = ends
    client.sendall(REQUEST)
    read_head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)
    upstream.shutdown(socket.SHUT_WR)
    assert len(read_all(client)) == len(b"HTTP/1.1 200 OK\r\n\r\n") + 100_000
    exchange = intercepting.exchange()
    assert (exchange.response_body_size, exchange.error) == (100_000, "")


def test_a_client_that_aborts(ends, intercepting: RunningMitm):
    client, upstream = ends
    client.sendall(REQUEST)
    read_head(upstream)
    client.close()
    assert read_all(upstream) == b""
    assert intercepting.exchange().error == "client_aborted"


def test_what_is_not_http_passes(ends, intercepting: RunningMitm):
    client, upstream = ends
    client.sendall(b"\x00\x01\x02")
    assert upstream.recv(3) == b"\x00\x01\x02"
    upstream.sendall(b"\x03\x04")
    assert client.recv(2) == b"\x03\x04"
    client.sendall(REQUEST)
    assert upstream.recv(len(REQUEST)) == REQUEST


def test_a_slow_head_is_not_held_for_long(ends, intercepting: RunningMitm):
    client, upstream = ends
    client.sendall(b"GET /slow")
    assert upstream.recv(100) == b"GET /slow"
    client.sendall(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"x-sp-service-name: orders\r\n" in read_head(upstream)
    upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    read_head(client)
    assert intercepting.exchange().target == b"/slow"


def test_large_bodies_both_ways_cost_no_memory(ends, intercepting: RunningMitm):
    client, upstream = ends
    size = 64 << 20
    before = int(intercepting.gauges.get("resident_memory_bytes", 0))
    client.sendall(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)

    def send(sock: ssl.SSLSocket) -> None:
        piece = b"x" * (1 << 20)
        for _ in range(size >> 20):
            sock.sendall(piece)

    def take(sock: ssl.SSLSocket) -> int:
        left = size
        while left:
            left -= len(sock.recv(min(left, 1 << 20)))
        return size

    read_head(upstream)
    sender = threading.Thread(target=send, args=(client,))
    sender.start()
    assert take(upstream) == size
    sender.join()
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    read_head(client)
    sender = threading.Thread(target=send, args=(upstream,))
    sender.start()
    assert take(client) == size
    sender.join()
    exchange = intercepting.exchange()
    assert exchange.request_body_size == exchange.response_body_size == size
    assert len(exchange.request_body) == len(exchange.response_body) == 65536
    intercepting.wait(lambda: intercepting.gauges["resident_memory_bytes"] > 0)
    if before:
        assert intercepting.gauges["resident_memory_bytes"] - before < 32 << 20


def test_sampling_holds_here_too(authority: Path, certificate: Path, tls_origin: Origin):
    tls = TlsConfig(intercept=("shop",), ca_directory=str(authority), trusted_file=str(certificate))
    options = {"admission": AdmissionConfig(sampling_ratio=0.0)}
    with RunningMitm(tls=tls, options=options) as worker, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(tls_origin.accept)
        client = worker.connect_tls(tls_origin.address, "shop.test", authority / CA_CERTIFICATE_FILE, "http/1.1")
        with client, accepting.result() as upstream:
            client.sendall(REQUEST)
            read_head(upstream)
            upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            read_head(client)
            worker.counter("dropped:sampled_out", 1)
        assert worker.exchanges == []


def test_http2_is_negotiated_on_both_sides(intercepting: RunningMitm, tls_origin: Origin, authority: Path):
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(tls_origin.accept)
        client = intercepting.connect_tls(tls_origin.address, "shop.test", authority / CA_CERTIFICATE_FILE, "h2")
        with client, accepting.result() as upstream:
            assert isinstance(upstream, ssl.SSLSocket)
            assert client.selected_alpn_protocol() == upstream.selected_alpn_protocol() == "h2"
            client.sendall(PREFACE + b"\0\0\0\x04\0\0\0\0\0")
            assert upstream.recv(33) == PREFACE + b"\0\0\0\x04\0\0\0\0\0"
