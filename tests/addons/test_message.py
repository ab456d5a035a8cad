"""Captured requests and responses in a hook's hands."""

import gzip
import random

import pytest

from sp_proxy.addons.message import Headers, Message


def test_headers_are_a_mapping_in_any_case():
    headers = Headers(b"Host: a\r\nAccept: x\r\naccept:  y\r\nno colon\r\n: z\r\n")
    assert headers["HOST"] == "a"
    assert headers["accept"] == "x, y"
    assert list(headers) == ["host", "accept"]
    assert len(headers) == 2
    assert "cookie" not in headers
    assert headers.get("cookie", "none") == "none"


def test_read_only_they_are_the_bytes_that_came():
    block = b"A:1\r\nodd line\r\nB:  2\r\n"
    assert Headers(block).block() == block


def test_setting_and_removing():
    headers = Headers(b"A: 1\r\na: 2\r\nB: 3\r\n")
    headers["a"] = "4"
    assert headers.block() == b"B: 3\r\na: 4\r\n"
    del headers["b"]
    assert headers.block() == b"a: 4\r\n"
    with pytest.raises(KeyError):
        del headers["b"]
    for name, value in (("a b", "1"), ("", "1"), ("a", "1\r\nb: 2"), ("a", "\0")):
        with pytest.raises(ValueError):
            headers[name] = value


def test_content_is_decoded_and_parsed():
    body = gzip.compress(b'{"a": 1}')
    message = Message(b"Content-Encoding: gzip\r\n", body, len(body))
    assert message.content == b'{"a": 1}'
    assert message.json() == {"a": 1}
    assert message.complete
    assert message.parts() == (b"Content-Encoding: gzip\r\n", body, len(body))


def test_other_content_is_not_coded():
    body = gzip.compress(b"secret")
    message = Message(b"Content-Encoding: gzip\r\nA: 1\r\n", body, len(body))
    message.set_json({"ü": [1]})
    assert message.parts() == (b"A: 1\r\n", '{"ü":[1]}'.encode(), 10)


def test_what_was_cut_stays_cut():
    message = Message(b"", b'{"a": ', 100)
    assert not message.complete
    assert message.json() is None
    message.content = "other"
    assert message.parts() == (b"", b"other", 100)
    message.content = ""
    assert message.parts() == (b"", b"", 0)
    broken = gzip.compress(bytes(random.Random(1).choices(b"abcdefgh", k=20_000)))[:-300]
    cut = Message(b"content-encoding: gzip\r\n", broken, len(broken))
    assert cut.content
    assert not cut.complete


def test_what_cannot_be_decoded_is_as_it_is():
    message = Message(b"content-encoding: gzip\r\n", b"no gzip", 7)
    assert message.content == b"no gzip"
    assert message.json() is None
    assert Message(b"", b"\xff", 1).text == "\N{REPLACEMENT CHARACTER}"
    assert Message(b"", b"[" * 100_000, 100_000).json() is None


def test_a_copy_is_another_one():
    message = Message(b"A: 1\r\n", b"x", 1)
    message.content = "one"
    other = message.copy()
    other.headers["a"] = "2"
    other.content = "two"
    assert message.parts() == (b"A: 1\r\n", b"one", 3)
    assert other.parts() == (b"a: 2\r\n", b"two", 3)
