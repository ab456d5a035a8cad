"""Reading a ClientHello that a real TLS library makes, in any pieces."""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_proxy.taps.tls_hello import MAX_HELLO_BYTES, ClientHello, ClientHelloReader


def client_hello(server_name: str | None, *alpn: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def read(*pieces: bytes) -> ClientHelloReader:
    reader = ClientHelloReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def split_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most this size (RFC 8446 section 5.1 allows it)."""
    message = hello[5:]
    return b"".join(
        hello[:3] + len(part).to_bytes(2) + part
        for part in (message[at : at + size] for at in range(0, len(message), size))
    )


def test_server_name_and_protocols():
    reader = read(client_hello("Shop.Example.com", "h2", "http/1.1"))
    assert reader.done
    assert reader.hello == ClientHello("shop.example.com", ("h2", "http/1.1"))


def test_neither_is_sent():
    assert read(client_hello(None)).hello == ClientHello()


def test_byte_by_byte():
    hello = client_hello("a.test", "h2")
    reader = ClientHelloReader()
    for at in range(len(hello)):
        assert not reader.done
        reader.feed(hello[at : at + 1])
    assert reader.hello == ClientHello("a.test", ("h2",))


@given(st.integers(1, 600), st.integers(1, 100))
@settings(deadline=None, max_examples=40)
def test_any_records_in_any_pieces(record_size, piece_size):
    data = split_records(client_hello("a.test", "h2"), record_size)
    reader = read(*(data[at : at + piece_size] for at in range(0, len(data), piece_size)))
    assert reader.hello == ClientHello("a.test", ("h2",))


def test_what_follows_is_ignored():
    assert read(client_hello("a.test") + b"early data", b"more").hello == ClientHello("a.test")


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x16\x04\x01\x00\x05hello", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x00\x05\x02\0\0\0\0"],
)
def test_what_is_none_is_known_at_once(data):
    reader = read(data)
    assert reader.done
    assert reader.hello is None


def test_a_hello_without_end_is_given_up():
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380)
    reader = read(record)
    assert reader.done
    assert len(record) < MAX_HELLO_BYTES
    assert reader.hello is None


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_fail(data):
    read(data, data)


@given(st.integers(5, 500), st.integers(0, 255))
@settings(deadline=None)
def test_a_damaged_hello_never_fails(at, value):
    hello = bytearray(client_hello("a.test", "h2"))
    hello[at % len(hello)] = value
    read(bytes(hello))
