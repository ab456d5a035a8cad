"""The HTTP/2 tap between two real HTTP/2 endpoints (the ``h2`` package), and against hostile ones."""

import random
from collections import defaultdict

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction, Exchange, MessageCounts, Partial
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http2 import MAX_BLOCK_FRAMES, MAX_OPEN_BYTES, MAX_STREAMS, PREFACE, Http2Tap

REQUEST = [
    (":method", "POST"),
    (":path", "/svc/Method"),
    (":scheme", "http"),
    (":authority", "orders:80"),
    ("te", "trailers"),
]


class Watched:
    """A client and a server with the tap between them; bytes can be cut anywhere."""

    def __init__(self, cut: random.Random | None = None, **limits: int) -> None:
        self.records: list[Exchange] = []
        self.counters: defaultdict[str, int] = defaultdict(int)
        bits = random.Random(7)
        context = TapContext(
            direction=Direction.OUTBOUND,
            policy=Policy(PolicyConfig()),
            injector=Injector(HeaderConfig("shop")),
            sink=self.records.append,
            counters=self.counters,
            unix_ns=lambda: 1_000,
            random_bits=bits.getrandbits,
            strict=False,
            max_body_size=limits.get("max_body_size", 65536),
            max_head_size=131072,
        )
        self.tap = Http2Tap(context, Endpoints("10.0.0.1", 1, "10.0.0.2", 2))
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.cut = cut
        self.seen: dict[str, list[h2.events.Event]] = {"client": [], "server": []}
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.exchange_bytes()

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.cut is None:
            return [data] if data else []
        pieces = []
        while data:
            size = self.cut.choice((1, 2, 5, 9, 20, 1000))
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def exchange_bytes(self) -> None:
        """Move everything that waits, until nothing does."""
        moved = True
        while moved:
            moved = False
            for piece in self._pieces(self.client.data_to_send()):
                moved = True
                if out := self.tap.client(piece):
                    self.seen["server"] += self.server.receive_data(out)
            for piece in self._pieces(self.server.data_to_send()):
                moved = True
                if out := self.tap.server(piece):
                    self.seen["client"] += self.client.receive_data(out)
        assert self.tap.signal is Signal.NONE

    def request(self, headers=(), body=b"", trailers=(), *, base=REQUEST) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*base, *headers], end_stream=not body and not trailers)
        for at in range(0, len(body), 10_000):
            self.client.send_data(
                stream_id, body[at : at + 10_000], end_stream=not trailers and at + 10_000 >= len(body)
            )
            self.exchange_bytes()
        if trailers:
            self.client.send_headers(stream_id, trailers, end_stream=True)
        self.exchange_bytes()
        return stream_id

    def answer(self, stream_id: int, headers=(), body=b"", trailers=(), status="200") -> None:
        self.server.send_headers(stream_id, [(":status", status), *headers], end_stream=not body and not trailers)
        for at in range(0, len(body), 10_000):
            self.server.send_data(
                stream_id, body[at : at + 10_000], end_stream=not trailers and at + 10_000 >= len(body)
            )
            self.exchange_bytes()
        if trailers:
            self.server.send_headers(stream_id, trailers, end_stream=True)
        self.exchange_bytes()

    def requests_seen(self) -> list[dict[bytes, bytes]]:
        return [dict(event.headers) for event in self.seen["server"] if isinstance(event, h2.events.RequestReceived)]


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


def test_frames_that_need_no_edit_are_not_touched() -> None:
    both = Watched()
    stream = both.request()
    assert both.counters["raw"] == 0
    both.client.increment_flow_control_window(1000)
    both.client.ping(b"12345678")
    both.client.prioritize(stream, weight=20)
    data = both.client.data_to_send()
    assert both.tap.client(data) == data


def test_many_requests_share_the_dynamic_table_until_one_must_be_replaced() -> None:
    both = Watched()
    for number in range(5):
        both.answer(both.request([("x-a", "b"), ("x-n", str(number))]))
    both.answer(both.request([("x-sp-num", "4"), ("tracestate", "v=1")]))
    for number in range(5):
        both.answer(both.request([("x-a", "b"), ("x-n", str(number)), ("cookie", "a=b")], b"", [("x-end", "1")]))
    seen = both.requests_seen()
    assert len(seen) == len(both.records) == 11
    assert [each[b"x-sp-num"] for each in seen] == [b"1"] * 5 + [b"5"] + [b"1"] * 5
    assert [each.get(b"x-n") for each in seen[6:]] == [b"%d" % n for n in range(5)]
    assert seen[5][b"tracestate"].startswith(b"x-sp-traceparent=")
    assert seen[5][b"tracestate"].endswith(b",v=1")


def test_a_table_size_change_after_blocks_are_encoded_anew() -> None:
    both = Watched()
    both.answer(both.request([("x-sp-num", "4")]))
    both.server.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    both.exchange_bytes()
    both.answer(both.request([("x-a", "b")]))
    both.server.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 4096})
    both.exchange_bytes()
    both.answer(both.request([("x-a", "b")]))
    assert [each[b"x-sp-num"] for each in both.requests_seen()] == [b"5", b"1", b"1"]


def test_a_block_beyond_one_frame_goes_on_in_several() -> None:
    both = Watched()
    both.client.update_settings({h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
    both.server.local_settings.max_header_list_size = 1 << 20
    both.server.decoder.max_header_list_size = 1 << 20
    large = [(f"x-{n}", "v" * 1000) for n in range(40)]
    both.answer(both.request(large))
    [seen] = both.requests_seen()
    assert seen[b"x-39"] == b"v" * 1000
    assert seen[b"x-sp-num"] == b"1"
    assert both.records[0].request_fields.count(b"\r\n") > 40


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


def test_padded_frames_are_captured_without_padding() -> None:
    both = Watched(random.Random(5))
    stream = both.client.get_next_available_stream_id()
    both.client.send_headers(stream, REQUEST, priority_weight=5)
    both.client.send_data(stream, b"one", pad_length=7)
    both.client.send_data(stream, b"two", pad_length=200, end_stream=True)
    both.exchange_bytes()
    both.server.send_headers(stream, [(":status", "200")])
    both.server.send_data(stream, b"three", pad_length=0, end_stream=True)
    both.exchange_bytes()
    assert bytes(both.records[0].request_body) == b"onetwo"
    assert bytes(both.records[0].response_body) == b"three"


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


def goaways(events) -> list[int | None]:
    return [each.last_stream_id for each in events if isinstance(each, h2.events.ConnectionTerminated)]


def test_a_patient_drain_waits_for_the_last_stream() -> None:
    both = Watched()
    stream = both.request()
    assert both.tap.drain(patient=True) == b""
    both.answer(stream, [], b"body")
    assert goaways(both.seen["client"]) == [2**31 - 1]
    assert len(both.records) == 1
    assert both.tap.drain(patient=False) == b""  # said once


def test_a_drain_of_an_idle_connection_is_said_at_once() -> None:
    both = Watched()
    both.answer(both.request())
    assert goaways(both.client.receive_data(both.tap.drain(patient=True))) == [2**31 - 1]


def test_an_impatient_drain_speaks_between_two_frames() -> None:
    both = Watched()
    stream = both.request()
    both.server.send_headers(stream, [(":status", "200")])
    both.server.send_data(stream, b"x" * 100)
    data = both.server.data_to_send()
    both.client.receive_data(both.tap.server(data[:60]))
    assert both.tap.drain(patient=False) == b""
    assert goaways(both.client.receive_data(both.tap.server(data[60:]))) == [2**31 - 1]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


BLOCK = hpack.Encoder().encode(REQUEST)
UNEXPECTED = {
    "h2_interrupted_block": frame(1, 0, 1, BLOCK) + frame(0, 0, 1, b"x"),
    "h2_continuation": frame(9, 4, 1, BLOCK),
    "h2_stream_id": frame(1, 4, 2, BLOCK),
    "h2_push_promise": frame(5, 4, 1, b"\0\0\0\2" + BLOCK),
    "h2_padding": frame(1, 0x0C, 1, b"\xff" + BLOCK),
    "h2_settings": frame(4, 0, 0, b"12345"),
    "h2_frame_size": frame(1, 4, 1, b"\0" * 16385),
    "h2_block_too_large": frame(1, 0, 1, BLOCK) + frame(9, 0, 1, b"") * (MAX_BLOCK_FRAMES + 1),
    "index_beyond_table": frame(1, 4, 1, b"\xff\x20"),
}


@pytest.mark.parametrize("reason", UNEXPECTED)
@pytest.mark.parametrize("size", [1, 7, 10_000_000])
def test_what_is_unexpected_goes_raw_with_every_byte(reason: str, size: int) -> None:
    both = Watched()
    sent = UNEXPECTED[reason] + b"and more"
    got = b""
    raw = False
    for at in range(0, len(sent), size):
        piece = sent[at : at + size]
        if raw:
            got += piece
            continue
        got += both.tap.client(piece)
        if both.tap.signal is Signal.RAW:
            raw = True
            got += both.tap.take_held()
    assert raw
    assert got == sent
    assert both.counters["raw:" + reason] == 1
    assert not both.records


def test_once_encoded_anew_the_unexpected_is_a_reset() -> None:
    both = Watched()
    both.answer(both.request([("x-sp-num", "4")]))
    ping = frame(6, 0, 0, bytes(8))
    assert both.tap.client(ping + UNEXPECTED["h2_continuation"] + frame(1, 5, 3, BLOCK)) == ping
    assert both.tap.signal is Signal.ABORT


@pytest.mark.parametrize("size", [1, 20, 10_000])
def test_a_fault_of_ours_loses_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Watched()
    ping = frame(6, 0, 0, bytes(8))
    sent = ping + frame(1, 0, 1, BLOCK[:5]) + frame(9, 4, 1, BLOCK[5:]) + ping
    monkeypatch.setattr(Injector, "plan", lambda *_: 1 / 0)
    forwarded = bytearray()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    def give() -> None:
        while pieces:
            forwarded.extend(both.tap.client(pieces.pop(0)))

    with pytest.raises(ZeroDivisionError):
        give()
    assert forwarded + both.tap.take_held() + b"".join(pieces) == sent
    assert both.tap.take_kept() == b""


def test_not_the_preface() -> None:
    both = Watched()
    tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
    data = PREFACE[:-1] + b"X" + b"rest"
    assert tap.client(data) == data
    assert tap.signal is Signal.RAW


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
    assert both.counters["requests_skipped:too_many_open"] == 5  # the last that is kept is cut
    both.tap.close("client_aborted")
    assert len(both.records) == count
    assert [record.request_body_size for record in both.records] == [1 << 20] * count
    assert MAX_OPEN_BYTES - 65536 < sum(len(record.request_body) for record in both.records) <= MAX_OPEN_BYTES
    both.tap.client(frame(1, 5, 999, BLOCK))
    both.tap.client(frame(3, 0, 999, b"\0\0\0\x08"))
    assert len(both.records) == count + 1  # there is room again


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


@pytest.mark.parametrize("anew", [False, True])
def test_a_read_does_not_become_many_times_its_size(anew: bool) -> None:
    both = Watched()
    encoder = hpack.Encoder()
    more = [("x-bomb", "v" * 3900), *([("x-sp-num", "3")] if anew else [])]
    both.tap.client(frame(1, 5, 1, encoder.encode([*REQUEST, *more], huffman=False)))
    small = encoder.encode([("x-bomb", "v" * 3900)] * 250)
    assert len(small) == 250
    sent = b"".join(frame(1, 5, 3 + 2 * number, BLOCK + small) for number in range(900))
    out = both.tap.client(sent)
    assert both.tap.signal is (Signal.ABORT if anew else Signal.RAW)
    assert both.counters["raw:header_lists_too_large"] == 1
    assert len(out) < 9 << 20


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


@pytest.mark.parametrize("cut", range(1, 40))
def test_what_the_server_said_before_the_client_is_not_said_twice(cut: int) -> None:
    first = frame(4, 0, 0, b"\0\3\0\0\0\x64") + frame(8, 0, 0, b"\0\1\0\0") + frame(4, 1, 0, b"")
    both = Watched()
    tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
    tap.begin(first[:cut], 0)
    tap.client(PREFACE)
    assert tap.server(first[cut:]) == first[cut:]


@pytest.mark.parametrize("passed", range(len(PREFACE)))
def test_a_preface_of_which_a_part_has_gone(passed: int) -> None:
    both = Watched()
    for size in (1, 100):
        tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
        tap.begin(b"", passed)
        rest = PREFACE[passed:] + frame(6, 0, 0, bytes(8))
        assert b"".join(tap.client(rest[at : at + size]) for at in range(0, len(rest), size)) == rest
        assert tap.signal is Signal.NONE
        tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
        tap.begin(b"", passed)
        wrong = PREFACE[passed:-1] + b"!more"
        assert b"".join(tap.client(wrong[at : at + size]) for at in range(0, len(wrong), size)).startswith(wrong[:-4])
        assert tap.signal is Signal.RAW
        tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
        tap.begin(b"", passed)
        assert tap.client(PREFACE[passed:-1]) + tap.client_eof() == PREFACE[passed:-1]


def test_a_server_that_cannot_be_read_once_encoded_anew_is_not_cut_off() -> None:
    both = Watched()
    both.answer(both.request([("x-sp-num", "4")]))
    both.tap.client(frame(1, 5, 3, BLOCK))
    bad = UNEXPECTED["index_beyond_table"] + b"and more"
    assert both.tap.server(bad) == bad
    assert both.tap.signal is Signal.NONE
    assert both.tap.server(b"whatever") == b"whatever"
    assert both.counters["raw:index_beyond_table"] == both.counters["abandoned"] == 1
    assert b"x-sp-service-name" in both.tap.client(frame(1, 5, 5, BLOCK))
    assert len(both.records) == 1


def test_a_request_at_the_origin_s_limit_is_not_made_longer() -> None:
    both = Watched()
    size = sum(len(name) + len(value) + 32 for name, value in REQUEST)
    both.tap.server(frame(4, 0, 0, b"\0\6" + (size + 100).to_bytes(4)))
    sent = frame(1, 5, 1, BLOCK)
    assert both.tap.client(sent) == sent
    assert both.counters["h2_not_injected"] == 1
    both.tap.server(frame(4, 0, 0, b"\0\6" + (size + 1000).to_bytes(4)))
    assert b"x-sp-service-name" in both.tap.client(frame(1, 5, 3, BLOCK))
    both.tap.close("client_aborted")
    assert [b"x-sp-service-name" in record.request_fields for record in both.records] == [False, True]


def test_streams_beyond_the_limit_are_injected_and_not_watched() -> None:
    both = Watched()
    added = both.tap.client(b"".join(frame(1, 5, 1 + 2 * n, BLOCK) for n in range(MAX_STREAMS + 10)))
    assert added.count(b"x-sp-service-name") == MAX_STREAMS + 10
    assert both.counters["h2_unwatched_streams"] == 10
    for n in range(MAX_STREAMS + 10):
        both.tap.client(frame(3, 0, 1 + 2 * n, b"\0\0\0\x08"))
    assert both.tap.idle


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_conversations_cut_anywhere_give_the_same(seed: int, data) -> None:
    steps = data.draw(
        st.lists(
            st.tuples(
                st.lists(
                    st.sampled_from([("x-a", "b"), ("x-sp-num", "3"), ("tracestate", "a=1"), ("cookie", "c")]),
                    max_size=3,
                ),
                st.binary(max_size=50),
                st.booleans(),
            ),
            max_size=5,
        )
    )
    outcomes = []
    for cut in (None, random.Random(seed)):
        both = Watched(cut)
        for headers, body, trailers in steps:
            stream = both.request(headers, body, [("x-t", "1")] if trailers else [])
            both.answer(stream, [("x-r", "1")], body[::-1], [("x-t", "2")] if trailers else [])
        outcomes.append((both.requests_seen(), both.records, dict(both.counters)))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][1]) == len(steps)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=20)
)
def test_whatever_frames_come_nothing_is_raised_and_nothing_is_lost(frames) -> None:
    both = Watched()
    sent = b"".join(frame(*each) for each in frames)
    out = both.tap.client(sent)
    if both.tap.signal is not Signal.NONE:
        out += both.tap.take_held()
    else:
        assert both.tap.server(sent) is not None
        out += both.tap.client_eof()
    if not any(name.startswith("requests:") for name in both.counters):
        assert out == sent
    both.tap.close("client_aborted")
