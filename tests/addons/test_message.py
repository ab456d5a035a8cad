"""Captured requests and responses in a hook's hands."""

import gzip
import random

from sp_proxy.addons.message import Message


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
