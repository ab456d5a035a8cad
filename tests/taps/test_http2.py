"""The HTTP/2 tap between two real HTTP/2 endpoints (the ``h2`` package), and against hostile ones."""

import random

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_proxy.core.inject import Injector
from sp_proxy.taps.context import Endpoints, Signal
from sp_proxy.taps.hpack import Decoder, literal
from sp_proxy.taps.http2 import PREFACE, Http2Tap
from sp_proxy.taps.http2_blocks import PEER_FRAME_SIZE
from sp_proxy.taps.http2_sides import MAX_BLOCK_FRAMES
from tests.taps.http2_rig import BLOCK, REQUEST, Watched, frame


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


@pytest.mark.parametrize("last", [b"", literal(b"a", b"b"), literal(b"a", b"b" * 16370)])
def test_a_block_in_several_frames_stays_in_as_many(last: bytes) -> None:
    both = Watched()
    head = [
        frame(1, 0x29, 1, b"\x02prior" + BLOCK[:9] + b"\0\0"),
        frame(9, 0, 1, BLOCK[9:]),
        *[frame(9, 0, 1, b"")] * 12,
    ]
    first = b"".join(head)
    out = both.tap.client(first + frame(9, 4, 1, last))
    assert out.startswith(first)
    rest = out[len(first) :]
    block, kinds = BLOCK, []
    while rest:
        end = 9 + int.from_bytes(rest[:3])
        assert end <= 9 + PEER_FRAME_SIZE
        kinds.append(rest[3:9])
        block += rest[9:end]
        rest = rest[end:]
    end_of_block = b"\x09\x04\0\0\0\x01"
    more = [end_of_block.replace(b"\x04", b"\0")] if len(last) > 1000 else []
    assert kinds == [*more, end_of_block]
    assert block.startswith(BLOCK + last)
    assert (b"x-sp-num", b"1") in Decoder().decode(block).fields


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
    monkeypatch.setattr(Injector, "fresh_plan", lambda *_: 1 / 0)
    forwarded = bytearray()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    def give() -> None:
        while pieces:
            forwarded.extend(both.tap.client(pieces.pop(0)))

    with pytest.raises(ZeroDivisionError):
        give()
    assert forwarded + both.tap.take_held() + b"".join(pieces) == sent
    assert both.tap.take_kept() == b""


def test_a_preface_that_does_not_go_on_is_not_held_for_ever() -> None:
    tap = Http2Tap(Watched().tap._context, Endpoints("", 0, "", 0))
    tap.begin(b"", 4)
    assert (tap.client(PREFACE[4:18]), tap.signal) == (b"", Signal.HOLDING)
    assert (tap.timeout(), tap.signal, tap.timeout()) == (PREFACE[4:18], Signal.NONE, b"")
    assert (tap.client(PREFACE[18:20]), tap.timeout()) == (b"", PREFACE[18:20])
    ping = frame(6, 0, 0, bytes(8))
    assert (tap.client(PREFACE[20:] + ping), tap.signal) == (PREFACE[20:] + ping, Signal.NONE)


def test_what_cannot_become_the_preface_goes_on_at_once() -> None:
    tap = Http2Tap(Watched().tap._context, Endpoints("", 0, "", 0))
    assert (tap.client(PREFACE[:18] + b"XX"), tap.signal) == (PREFACE[:18] + b"XX", Signal.RAW)


def test_not_the_preface() -> None:
    both = Watched()
    tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
    data = PREFACE[:-1] + b"X" + b"rest"
    assert tap.client(data) == data
    assert tap.signal is Signal.RAW


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


@pytest.mark.parametrize("cut", range(1, 40))
def test_what_the_server_said_before_the_client_is_not_said_twice(cut: int) -> None:
    first = frame(4, 0, 0, b"\0\3\0\0\0\x64") + frame(8, 0, 0, b"\0\1\0\0") + frame(4, 1, 0, b"")
    both = Watched()
    tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
    tap.begin(first[:cut], 0)
    tap.client(PREFACE)
    assert tap.server(first[cut:]) == first[cut:]


@pytest.mark.parametrize("size", [1, 100])
def test_what_the_server_said_before_and_cannot_be_read_is_counted_once(size: int) -> None:
    both = Watched()
    tap = Http2Tap(both.tap._context, Endpoints("", 0, "", 0))
    tap.begin(frame(4, 0, 0, b"") + frame(4, 0, 0, b"?"), 4)
    said = PREFACE[4:] + frame(1, 5, 1, BLOCK)
    assert b"".join(tap.client(said[at : at + size]) for at in range(0, len(said), size)) == b""
    assert (tap.signal, tap.take_held()) == (Signal.RAW, said)
    assert {name: each for name, each in both.counters.items() if name.startswith("raw:")} == {"raw:h2_settings": 1}


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
