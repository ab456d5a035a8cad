"""What the exchanges of HTTP/2 streams become, between two real endpoints (the ``h2`` package)."""

import random

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest

from sp_proxy.core.exchange import MessageCounts, Partial
from sp_proxy.taps.http2_streams import MAX_OPEN_BYTES, MAX_STREAMS
from tests.taps.http2_rig import BLOCK, REQUEST, Watched, frame


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_an_exchange_with_bodies_and_trailers(seed) -> None:
    both = Watched(random.Random(seed) if seed else None)
    stream = both.request([("x-a", "b")], b"hello", [("x-end", "1")])
    both.answer(stream, [("content-type", "application/grpc")], b"world", [("grpc-status", "0")])
    [seen] = both.requests_seen()
    assert seen[b"x-sp-service-name"] == b"shop"
    assert seen[b"x-sp-num"] == b"1"
    [record] = both.records
    assert (record.method, record.target, record.authority) == (b"POST", b"/svc/Method", b"orders:80")
    assert record.protocol_version == "2"
    assert (bytes(record.request_body), bytes(record.response_body)) == (b"hello", b"world")
    assert record.request_trailers == b"x-end: 1\r\n"
    assert record.response_trailers == b"grpc-status: 0\r\n"
    assert record.status == 200
    assert record.error == ""
    assert b"x-sp-service-name: shop\r\n" in record.request_fields
    assert seen[b"traceparent"].split(b"-")[1].decode() == record.trace_id.hex()
    assert both.tap.idle


CALL = [("content-type", "application/grpc+proto")]


def messages(*sizes: int) -> bytes:
    return b"".join(b"\0" + size.to_bytes(4) + b"m" * size for size in sizes)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_messages_of_a_grpc_call_are_counted_beyond_what_is_kept(seed) -> None:
    both = Watched(random.Random(seed) if seed else None, max_body_size=10)
    stream = both.request(CALL, messages(0, 30_000, 7), [("x-end", "1")])
    both.answer(stream, CALL, messages(1, 2, 3, 4, 25_000), [("grpc-status", "0")])
    [record] = both.records
    assert record.grpc == MessageCounts(3, 5)
    assert len(record.request_body) == 10


def test_messages_are_counted_of_captured_calls_only() -> None:
    both = Watched()
    both.answer(both.request([("content-type", "application/json")], b"{}"))
    both.answer(both.request([], messages(1)))
    assert [record.grpc for record in both.records] == [None, None]


def test_a_stream_that_goes_on_is_recorded_before_its_end() -> None:
    both = Watched()
    both.answer(both.request())
    stream = both.request(CALL, messages(1))
    both.server.send_headers(stream, [(":status", "200"), *CALL])
    both.server.send_data(stream, messages(1, 2))
    both.exchange_bytes()
    both.tap.record_open(1_000)
    assert len(both.records) == 1
    for _ in range(2):
        both.tap.record_open(1_001)
    both.server.send_data(stream, messages(3))
    both.server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    both.exchange_bytes()
    _, ongoing, whole = both.records
    assert ongoing.partial is not None
    assert (ongoing.partial.ongoing, ongoing.partial.request_open, ongoing.partial.response_open) == (True, False, True)
    assert (ongoing.grpc, whole.grpc) == (MessageCounts(1, 2), MessageCounts(1, 3))
    assert whole.partial == Partial(ongoing.partial.span_id)
    assert ongoing.span_id == whole.span_id != ongoing.partial.span_id


def test_interim_responses_and_push() -> None:
    both = Watched()
    stream = both.request()
    both.server.send_headers(stream, [(":status", "103"), ("link", "</a>")])
    both.server.push_stream(stream, 2, REQUEST)
    both.server.send_headers(2, [(":status", "200"), ("x-pushed", "1")], end_stream=True)
    both.answer(stream, [("x-pushed", "1")], b"body")
    assert both.counters["h2_pushes"] == 1
    [record] = both.records
    assert record.status == 200
    assert record.response_fields == b"x-pushed: 1\r\n"


def test_a_response_that_carries_traceparent_gets_another_of_the_same_trace() -> None:
    both = Watched()
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    both.answer(both.request(), [("traceparent", theirs)], b"x")
    [event] = [each for each in both.seen["client"] if isinstance(each, h2.events.ResponseReceived)]
    found = [value for name, value in event.headers if name == b"traceparent"]
    assert found[0] == theirs.encode()
    assert found[1].split(b"-")[1].decode() == both.records[0].trace_id.hex()
    both.answer(both.request())
    assert len(both.records) == 2


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_stream_is_a_record_with_an_error(who: str) -> None:
    both = Watched()
    stream = both.request(body=b"x" * 100, trailers=[])
    if who == "client":
        both.client.reset_stream(stream)
    else:
        both.server.reset_stream(stream)
    both.exchange_bytes()
    assert [record.error for record in both.records] == ["client_aborted" if who == "client" else "upstream_aborted"]
    both.answer(both.request())
    assert both.records[1].error == ""


def test_an_early_answer_followed_by_no_error_is_complete() -> None:
    both = Watched()
    stream = both.client.get_next_available_stream_id()
    both.client.send_headers(stream, REQUEST)
    both.client.send_data(stream, b"some")
    both.exchange_bytes()
    both.answer(stream, [], b"too much", status="413")
    both.server.reset_stream(stream, error_code=0)
    both.exchange_bytes()
    assert [(record.status, record.error) for record in both.records] == [(413, "")]


def test_open_streams_end_with_the_connection() -> None:
    both = Watched()
    both.request()
    both.tap.close("client_aborted")
    assert [record.error for record in both.records] == ["client_aborted"]


def test_bodies_are_cut_at_the_limit_and_counted_in_full() -> None:
    both = Watched(max_body_size=100)
    stream = both.request(body=b"x" * 50_000)
    both.answer(stream, [], b"y" * 60_000)
    [record] = both.records
    assert (len(record.request_body), record.request_body_size) == (100, 50_000)
    assert (len(record.response_body), record.response_body_size) == (100, 60_000)


def test_a_tunnel_is_recorded_at_its_answer_and_not_watched() -> None:
    both = Watched()
    both.server.update_settings({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    both.exchange_bytes()
    stream = both.client.get_next_available_stream_id()
    both.client.send_headers(stream, [(":method", "CONNECT"), (":protocol", "websocket"), *REQUEST[1:4]])
    both.exchange_bytes()
    both.server.send_headers(stream, [(":status", "200")])
    both.server.send_data(stream, b"\x81\x02hi")
    both.exchange_bytes()
    assert [(record.method, record.response_body_size) for record in both.records] == [(b"CONNECT", 0)]
    assert both.counters["tunnels:connect"] == 1
    assert not both.tap.idle  # it is open until both ends have finished
    both.server.end_stream(stream)
    both.client.end_stream(stream)
    both.exchange_bytes()
    assert both.tap.idle


def test_a_thousand_open_streams_are_all_captured() -> None:
    both = Watched()
    streams = range(1, 2001, 2)
    both.tap.client(b"".join(frame(1, 5, stream, BLOCK) for stream in streams))
    answer = hpack.Encoder().encode([(":status", "204")])
    both.tap.server(b"".join(frame(1, 5, stream, answer) for stream in streams))
    assert [record.status for record in both.records] == [204] * 1000
    assert both.tap.idle


def test_what_open_exchanges_keep_is_bounded() -> None:
    both = Watched(max_body_size=1 << 20)
    piece = b"x" * 16384
    count = MAX_OPEN_BYTES // (1 << 20)
    for number in range(count + 5):
        both.tap.client(frame(1, 4, 1 + 2 * number, BLOCK))
        for _ in range(64):
            both.tap.client(frame(0, 0, 1 + 2 * number, piece))
    assert both.counters["requests_skipped:too_many_open"] == 5
    both.tap.close("client_aborted")
    assert len(both.records) == count
    assert [record.request_body_size for record in both.records] == [1 << 20] * count
    assert MAX_OPEN_BYTES - 65536 < sum(len(record.request_body) for record in both.records) <= MAX_OPEN_BYTES
    both.tap.client(frame(1, 5, 999, BLOCK))
    both.tap.client(frame(3, 0, 999, b"\0\0\0\x08"))
    assert len(both.records) == count + 1  # there is room again


def test_contents_that_go_on_beyond_the_bound_are_cut_and_counted() -> None:
    both = Watched(max_body_size=1 << 20)
    piece = b"x" * 16384
    count = MAX_OPEN_BYTES // (1 << 20) + 4
    streams = [1 + 2 * number for number in range(count)]
    both.tap.client(b"".join(frame(1, 4, stream, BLOCK) for stream in streams))
    for _ in range(64):
        both.tap.client(b"".join(frame(0, 0, stream, piece) for stream in streams))
    both.tap.client(b"".join(frame(0, 1, stream, b"end") for stream in streams))
    assert both.counters["bodies_cut:too_many_open"] == count
    answer = hpack.Encoder().encode([(":status", "204")])
    both.tap.server(b"".join(frame(1, 5, stream, answer) for stream in streams))
    assert [record.request_body_size for record in both.records] == [(1 << 20) + 3] * count
    kept = [bytes(record.request_body) for record in both.records]
    assert MAX_OPEN_BYTES - 32768 < sum(map(len, kept)) <= MAX_OPEN_BYTES + 16384
    assert all(body == b"x" * len(body) for body in kept)  # the beginning, nothing from behind it
    assert both.tap.idle


def test_a_longer_head_than_is_kept_is_forwarded_and_injected() -> None:
    both = Watched()
    both.tap.server(frame(4, 0, 0, b"\0\5\0\x10\0\0" + b"\0\6\0\x10\0\0"))
    block = hpack.Encoder().encode([*REQUEST, ("x-large", "v" * 140_000)], huffman=False)
    assert b"x-sp-service-name" in both.tap.client(frame(1, 5, 1, block))
    assert both.counters["requests_skipped:head_too_long"] == 1
    both.tap.client(frame(1, 5, 3, BLOCK))
    answer = hpack.Encoder().encode([(":status", "200"), ("x-large", "v" * 140_000)], huffman=False)
    both.tap.client(frame(4, 0, 0, b"\0\5\0\x10\0\0"))
    both.tap.server(frame(1, 5, 1, answer) + frame(1, 5, 3, answer))
    assert both.counters["responses_skipped:head_too_long"] == 1
    assert (both.records, both.tap.idle) == ([], True)


def test_what_an_unwatched_stream_ends_with() -> None:
    """With content or without, it is open until both ends have finished."""
    both = Watched()
    both.server.update_settings({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    both.exchange_bytes()
    both.answer(
        both.request(base=[(":method", "CONNECT"), (":protocol", "websocket"), *REQUEST[1:4]], body=b"q"), body=b"a"
    )
    assert both.counters["tunnels:connect"] == 1
    assert both.tap.idle


def test_a_request_at_the_origin_s_limit_is_not_made_longer() -> None:
    both = Watched()
    size = sum(len(name) + len(value) + 32 for name, value in REQUEST)
    both.tap.server(frame(4, 0, 0, b"\0\6" + (size + 100).to_bytes(4)))
    sent = frame(1, 5, 1, BLOCK)
    assert both.tap.client(sent) == sent
    assert both.counters["h2_not_injected"] == 1
    both.tap.server(frame(4, 0, 0, b"\0\6" + (size - 1).to_bytes(4)))  # which its client does not care about
    assert b"x-sp-service-name" in both.tap.client(frame(1, 5, 5, BLOCK))
    both.tap.server(frame(4, 0, 0, b"\0\6" + (size + 1000).to_bytes(4)))
    assert b"x-sp-service-name" in both.tap.client(frame(1, 5, 7, BLOCK))
    both.tap.close("client_aborted")
    assert [b"x-sp-service-name" in record.request_fields for record in both.records] == [False, True, True]


def test_streams_beyond_the_limit_are_injected_and_not_watched() -> None:
    both = Watched()
    added = both.tap.client(b"".join(frame(1, 5, 1 + 2 * n, BLOCK) for n in range(MAX_STREAMS + 10)))
    assert added.count(b"x-sp-service-name") == MAX_STREAMS + 10
    assert both.counters["h2_unwatched_streams"] == 10
    for n in range(MAX_STREAMS + 10):
        both.tap.client(frame(3, 0, 1 + 2 * n, b"\0\0\0\x08"))
    assert both.tap.idle
