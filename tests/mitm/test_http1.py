"""What mitmproxy's own HTTP/1 does not let pass, through a real worker in which all HTTP is flows."""

import socket

import pytest
from mitmproxy.http import Headers

from sp_proxy.mitm.http1 import HIDDEN_EXPECT, hide_expect, shown
from tests.mitm.origins import Origin, fields, read_all, read_head, read_until
from tests.mitm.running_mitm import RunningMitm

GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"


def test_trailers_of_a_response(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, GET) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: X-Sum\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nx-b: c\r\n\r\n"
        )
        head = read_head(client)
        assert fields(head)["trailer"] == "X-Sum"
        assert read_until(client, b"\r\n\r\n") == b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nx-b: c\r\n\r\n"
        exchange = flows.exchange()
        assert exchange.response_trailers == b"X-Sum: 7\r\nx-b: c\r\n"
        assert exchange.response_body == b"abc"
        # and the connection goes on
        client.sendall(GET)
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert read_head(client) == b"HTTP/1.1 204 No Content\r\n\r\n"
        assert flows.exchange().status == 204


def test_trailers_of_a_request(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address) as client, origin.accept() as upstream:
        client.sendall(
            b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 9\r\n\r\n"
        )
        read_head(upstream)
        assert read_until(upstream, b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nX-Sum: 9\r\n\r\n"
        upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        read_head(client)
        exchange = flows.exchange()
        assert exchange.request_trailers == b"X-Sum: 9\r\n"
        assert (exchange.request_body, exchange.error) == (b"hi", "")


def test_interim_responses_reach_the_client(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, GET) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
        assert read_head(client) == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
        assert read_head(client) == b"HTTP/1.1 103 Early Hints\r\n\r\n"
        upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert read_until(client, b"ok").endswith(b"\r\n\r\nok")
        exchange = flows.exchange()
        assert (exchange.status, exchange.response_body) == (200, b"ok")


def test_the_origin_decides_about_expectations(flows: RunningMitm, origin: Origin):
    head = b"PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with flows.connect(origin.address, head) as client, origin.accept() as upstream:
        assert fields(read_head(upstream))["expect"] == "100-continue"
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(20)
        upstream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert read_head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert upstream.recv(4) == b"body"
        upstream.sendall(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 201")
        exchange = flows.exchange()
        assert b"Expect: 100-continue\r\n" in exchange.request_fields
        assert exchange.request_body == b"body"


def test_an_expectation_that_is_refused(flows: RunningMitm, origin: Origin):
    head = b"PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with flows.connect(origin.address, head) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 417 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 417")
    exchange = flows.exchange()
    assert (exchange.status, exchange.error) == (417, "")


def test_a_client_that_half_closes_gets_its_answer(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, GET) as client, origin.accept() as upstream:
        read_head(upstream)
        client.shutdown(socket.SHUT_WR)
        assert upstream.recv(1) == b""
        upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert read_all(client).endswith(b"\r\n\r\nok")
        assert flows.exchange().error == ""


def test_a_client_that_aborts_is_told_upstream(flows: RunningMitm, origin: Origin):
    client = flows.connect(origin.address, GET)
    with origin.accept() as upstream:
        read_head(upstream)
        client.close()
        upstream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        upstream.settimeout(20)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            upstream.sendall(b"x" * (64 << 20))
    exchange = flows.exchange()
    assert exchange.error == "client_aborted"


def test_bytes_before_the_first_line_is_complete(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, b"G") as client, origin.accept() as upstream:
        client.sendall(GET[1:])
        assert read_head(upstream).startswith(GET[:-2])
        upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        read_head(client)
    assert flows.exchange().target == b"/a"


def test_hidden_and_shown():
    headers = Headers(((b"Host", b"a"), (b"EXPECT", b"100-continue")))
    hide_expect(headers)
    assert headers.fields[1] == (HIDDEN_EXPECT, b"100-continue")
    assert "expect" not in headers
    assert shown(headers) == ((b"Host", b"a"), (b"Expect", b"100-continue"))
