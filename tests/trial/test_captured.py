import base64

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.trial.captured import lower_block, read
from tests.trial.exchanges import body, line


def test_the_attributes_have_the_whole_texts():
    captured = read(line(path="/cut", attributes={"http.request.header.:path": "/cut-and-more?x=1", "url.host": "a:1"}))
    assert (captured.target, captured.authority) == (b"/cut-and-more?x=1", b"a:1")
    assert captured.line == "GET a:1/cut-and-more?x=1"


def test_direction_and_size():
    assert read(line()).direction is Direction.INBOUND
    assert read(line(direction="unknown")).direction is None
    request = {"headers": [["a", "b"]], "body": body("12345")}
    assert read(line(request=request)).size - read(line()).size == 5 + 6 - 13


def test_bodies():
    response = {"headers": [], "body": body(base64.b64encode(b"\x00\x01").decode(), "image/png", "base64")}
    made = read(line(response=response)).response_body
    assert made
    assert (made.content, made.sent) == (b"\x00\x01", b"AAE=")
    made = read(line(response={"headers": [], "body": body("plain text", "image/png", "base64")})).response_body
    assert made
    assert (made.content, made.content_type) == (b"plain text", b"text/plain")


def test_trailers():
    captured = read(line(attributes={"http.response.trailer.grpc-status": "0"}))
    assert captured.trailers == (("grpc-status", "0"),)


def test_a_block_of_fields():
    assert lower_block([("Purpose", "PreFetch")]) == b"\r\npurpose: prefetch\r\n"
    assert lower_block([]) == b"\r\n"


@pytest.mark.parametrize("broken", [{}, {**line(), "request": None}, {**line(), "start_unix_ns": "x"}])
def test_what_is_none(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        read(broken)
