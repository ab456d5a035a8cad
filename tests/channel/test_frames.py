"""Frames: what is written is what is read, however the bytes are cut; everything else is a FrameError."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sp_proxy.channel.frames import (
    LENGTH,
    MAX_FRAME_BYTES,
    Drained,
    FrameError,
    FrameReader,
    Message,
    Ready,
    Records,
    Totals,
    frame,
)
from sp_proxy.core.exchange import Direction, Exchange

data = st.binary(max_size=40)
counts = st.integers(0, 2**63 - 1)
text = st.text(max_size=20)

exchanges = st.builds(
    Exchange,
    direction=st.sampled_from(Direction),
    start_unix_ns=counts,
    ttfb_ns=st.integers(-1, 2**63 - 1),
    duration_ns=counts,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_span_id=st.sampled_from([b"", b"12345678"]),
    session_id=data,
    service_name=data,
    scheme=st.sampled_from(["http", "https"]),
    protocol_version=st.sampled_from(["1.0", "1.1", "2"]),
    method=data,
    target=data,
    authority=data,
    request_fields=data,
    request_body=data,
    request_body_size=counts,
    status=st.integers(0, 999),
    response_fields=data,
    response_body=data,
    response_body_size=counts,
    client_address=text,
    client_port=st.integers(0, 65535),
    server_address=text,
    server_port=st.integers(0, 65535),
    request_trailers=data,
    response_trailers=data,
    error=st.sampled_from(["", "client_aborted", "upstream_aborted", "upstream_unreachable", "protocol_error"]),
    rule=text,
)
messages = st.one_of(
    st.builds(Records, st.lists(exchanges, max_size=3)),
    st.builds(Totals, st.dictionaries(text, counts, max_size=3), st.dictionaries(text, st.floats(0, 1e9), max_size=3)),
    st.builds(Ready, counts),
    st.just(Drained()),
)


def read_all(reader: FrameReader) -> list[Message]:
    read = []
    while (message := reader.next()) is not None:
        read.append(message)
    return read


@given(st.lists(messages, max_size=5), st.data())
def test_messages_survive_any_segmentation(sent, draw):
    stream = b"".join(map(frame, sent))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        received += read_all(reader)
    assert received == sent
    assert reader.pending == 0


def test_one_byte_at_a_time():
    sent: list[Message] = [Ready(3), Totals({"captured": 2}, {"connections": 1.0}), Drained()]
    reader = FrameReader()
    received = []
    for byte in b"".join(map(frame, sent)):
        reader.feed(bytes([byte]))
        received += read_all(reader)
    assert received == sent


def test_part_of_a_frame_is_pending():
    reader = FrameReader()
    reader.feed(frame(Ready(1))[:-1])
    assert reader.next() is None
    assert reader.pending == len(frame(Ready(1))) - 1


def test_an_announced_length_above_the_limit_is_refused_before_it_is_read():
    reader = FrameReader()
    reader.feed(LENGTH.pack(MAX_FRAME_BYTES + 1))
    with pytest.raises(FrameError, match="limit"):
        reader.next()


def test_the_largest_allowed_length_is_waited_for():
    reader = FrameReader()
    reader.feed(LENGTH.pack(MAX_FRAME_BYTES))
    assert reader.next() is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n",
        b"\x92\x63\x01",  # an unknown tag
        b"\x92\x02\xa1x",  # Ready with a text as worker id
        msgspec.msgpack.encode(Ready(1)) + b"\x00",  # more than one value
        b"\x92\x00\x91\x91\xa7inbound",  # an exchange of one field
    ],
)
def test_foreign_bytes_are_an_error(payload):
    reader = FrameReader()
    reader.feed(LENGTH.pack(len(payload)) + payload)
    with pytest.raises(FrameError):
        reader.next()


@given(st.binary(max_size=300))
@example(b"\x00\x00\x00\x00")
def test_any_bytes_are_messages_or_an_error(stream):
    reader = FrameReader()
    reader.feed(stream)
    try:
        read_all(reader)
    except FrameError:
        return
    assert reader.pending <= len(stream)
