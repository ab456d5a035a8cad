"""The record survives the way to the exporter, whatever its bytes are."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction, Exchange

_SIZE = st.integers(0, 2**62)


@given(
    st.builds(
        Exchange,
        direction=st.sampled_from(Direction),
        start_unix_ns=_SIZE,
        ttfb_ns=st.integers(-1, 2**62),
        duration_ns=_SIZE,
        trace_id=st.binary(min_size=16, max_size=16),
        span_id=st.binary(min_size=8, max_size=8),
        parent_span_id=st.sampled_from([b"", bytes(8)]),
        session_id=st.binary(max_size=40),
        service_name=st.binary(max_size=40),
        scheme=st.sampled_from(["http", "https"]),
        protocol_version=st.sampled_from(["1.0", "1.1", "2"]),
        method=st.binary(max_size=8),
        target=st.binary(max_size=80),
        authority=st.binary(max_size=40),
        request_fields=st.binary(max_size=200),
        request_body=st.binary(max_size=200),
        request_body_size=_SIZE,
        status=st.integers(0, 999),
        response_fields=st.binary(max_size=200),
        response_body=st.binary(max_size=200),
        response_body_size=_SIZE,
        client_address=st.text(max_size=40),
        client_port=st.integers(0, 65535),
        server_address=st.text(max_size=40),
        server_port=st.integers(0, 65535),
    )
)
def test_there_and_back(exchange: Exchange) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(exchange), type=Exchange) == exchange


def test_a_body_may_be_a_buffer_when_it_is_sent() -> None:
    fields: dict[str, Any] = dict.fromkeys(Exchange.__struct_fields__[:25], b"")
    fields |= {name: 0 for name in fields if name.endswith(("_ns", "_size", "_port")) or name == "status"}
    fields |= {"direction": Direction.INBOUND, "scheme": "http", "protocol_version": "1.1"}
    fields |= {"client_address": "", "server_address": ""}
    sent = Exchange(**{**fields, "request_body": bytearray(b"abc")})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Exchange).request_body == b"abc"
