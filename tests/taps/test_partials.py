"""Exchanges that go on for long: recorded once before their end, whichever tap watches them, and once when they end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.admission import Admission, AdmissionConfig, RateConfig
from sp_proxy.core.exchange import Exchange, Partial
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.taps.partials import record_open
from tests.taps.rig import NOW, Wire, cut
from tests.taps.test_open_exchange import admitted, opened

SECOND = 1_000_000_000
GET = b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def event(text: bytes) -> bytes:
    data = b"data: " + text + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def look(wire: Wire, after: int = 30) -> list[Exchange]:
    """What a look at the connection records. ``after``: seconds after which an exchange goes on for long."""
    known = len(wire.records)
    assert wire.tap is not None
    wire.tap.record_open(wire.now - after * SECOND)
    return wire.records[known:]


def test_an_event_stream_has_two_records():
    wire = Wire().client(GET).server(STREAM + event(b"1"))
    assert look(wire) == []
    wire.now += 31 * SECOND
    (partial,) = look(wire)
    assert look(wire) == []
    wire.now += 31 * SECOND
    assert look(wire) == []
    wire.server(event(b"2") + END)
    whole = wire.records[-1]
    assert len(wire.records) == 2
    assert partial.partial is not None
    assert partial.partial == Partial(partial.partial.span_id, ongoing=True, response_open=True)
    assert whole.partial == Partial(partial.partial.span_id)
    assert len(partial.partial.span_id) == 8
    assert (partial.trace_id, partial.span_id) == (whole.trace_id, whole.span_id)
    assert (partial.response_body, partial.response_body_size) == (b"data: 1\n\n", 9)
    assert bytes(whole.response_body) == b"data: 1\n\ndata: 2\n\n"
    assert (partial.duration_ns, whole.duration_ns) == (31 * SECOND, 62 * SECOND)
    assert (partial.error, whole.error, partial.status) == ("", "", 200)
    assert (wire.counters["captured"], wire.counters["partial_records"]) == (2, 1)


def test_a_partial_record_does_not_change_with_what_follows():
    wire = Wire().client(GET).server(STREAM + event(b"1"), event(b"2"))
    wire.now += 31 * SECOND
    (partial,) = look(wire)
    wire.server(event(b"3"))
    assert partial.response_body == b"data: 1\n\ndata: 2\n\n"


def test_a_long_poll_that_is_aborted():
    wire = Wire().client(POST + b"tea?")
    wire.now += 31 * SECOND
    (partial,) = look(wire)
    assert partial.partial is not None
    assert (partial.partial.request_open, partial.partial.response_open) == (False, True)
    assert (partial.status, partial.ttfb_ns, partial.request_body) == (0, -1, b"tea?")
    wire.close("client_aborted")
    assert wire.errors == ["", "client_aborted"]
    assert wire.records[1].partial == Partial(partial.partial.span_id)


def test_an_upload_that_was_answered_early():
    wire = Wire().client(POST + b"te").server(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
    wire.now += 31 * SECOND
    (partial,) = look(wire)
    assert partial.partial is not None
    assert (partial.partial.request_open, partial.partial.response_open) == (True, False)
    wire.client(b"a?")
    assert len(wire.records) == 2


def test_those_that_wait_behind_it_and_are_old_too():
    wire = Wire().client(GET)
    wire.now += 10 * SECOND
    wire.client(POST + b"tea?")
    wire.now += 10 * SECOND
    wire.client(GET)
    wire.now += 21 * SECOND
    assert [record.target for record in look(wire)] == [b"/events", b"/chat"]
    wire.now += 10 * SECOND
    assert [record.target for record in look(wire)] == [b"/events"]


def test_what_is_not_captured_is_not_recorded():
    wire = Wire(policy=PolicyConfig(capture_enabled=False)).client(GET)
    wire.now += 31 * SECOND
    assert look(wire) == []


def test_one_whose_answer_is_not_to_be_captured_still_gets_its_end():
    wire = Wire(policy=PolicyConfig()).client(GET)
    wire.now += 31 * SECOND
    (partial,) = look(wire)
    wire.server(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 3\r\n\r\npng")
    whole = wire.records[-1]
    assert (whole.partial, whole.status) == (Partial(partial.partial.span_id if partial.partial else b""), 200)
    assert (whole.response_fields, whole.response_body) == (b"", b"")
    assert len(wire.records) == 2


def test_one_that_is_watched_no_longer_still_gets_its_end():
    wire = Wire().client(GET).server(STREAM)
    wire.now += 31 * SECOND
    look(wire)
    wire.server(b"no chunk")
    assert wire.errors == ["", "protocol_error"]
    assert wire.counters["abandoned"] == 1


@pytest.mark.parametrize(
    "config, made",
    [
        (AdmissionConfig(sampling_ratio=0.0), 0),
        (AdmissionConfig(sampling_ratio=0.0, keep_slower_than=20.0), 1),
        (AdmissionConfig(limit=RateConfig(exchanges=1.0, exchange_burst=1.0)), 1),
        (AdmissionConfig(rule_limits={"server[0]": RateConfig(exchanges=0.001, exchange_burst=0.0)}), 0),
    ],
)
def test_sampling_and_limits_hold_and_what_they_refuse_is_not_lost(config: AdmissionConfig, made: int):
    wire = Wire()
    exchange = admitted(wire, config)
    wire.now += 31 * SECOND
    record_open([exchange], wire.now)
    assert len(wire.records) == wire.counters["captured"] == made
    assert (exchange.partial is not None) == bool(made)
    assert not [name for name in wire.counters if name.startswith("dropped")]


def test_no_answer_is_no_failure_that_sampling_keeps():
    wire = Wire()
    exchange = admitted(wire, AdmissionConfig(sampling_ratio=0.0))
    exchange.status = 0
    record_open([exchange], wire.now + 1)
    assert wire.records == []
    exchange.status = 503
    record_open([exchange], wire.now + 1)
    assert len(wire.records) == 1


def test_one_that_was_refused_is_asked_for_again():
    wire = Wire()
    exchange = admitted(wire, AdmissionConfig(limit=RateConfig(exchanges=1.0, exchange_burst=1.0)))
    assert exchange.context.admission is not None
    exchange.context.admission.refuse(b"f" * 32, "", failed=False, duration_ns=0, size=1, now_ns=NOW)
    record_open([exchange], wire.now + 1)
    assert wire.records == []
    wire.now += 2 * SECOND
    record_open([exchange], wire.now)
    assert len(wire.records) == 1


def test_one_that_has_ended_has_no_partial_record():
    wire = Wire()
    exchange = opened(wire)
    exchange.finish("")
    record_open([exchange], NOW + 1)
    assert len(wire.records) == 1


@given(st.lists(st.integers(0, 400), max_size=8), st.integers(0, 8))
def test_whenever_it_is_looked_at_nothing_else_changes(places: list[int], at: int):
    answer = STREAM + event(b"one") + event(b"two") + END
    plain = Wire().client(GET).server(*cut(answer, places))
    wire = Wire().client(GET)
    for number, piece in enumerate(cut(answer, places)):
        if number == at:
            look(wire, -1)
        wire.server(piece)
    assert (wire.up, wire.down) == (plain.up, plain.down)
    (whole,) = plain.records
    assert [record.response_body for record in wire.records[-1:]] == [whole.response_body]
    assert len(wire.records) == 1 + (wire.records[0].partial is not None)


def test_admission_is_the_workers_own():
    """The partial record's question is one of the limits' questions, no other bucket's."""
    wire = Wire()
    exchange = admitted(wire, AdmissionConfig(limit=RateConfig(exchanges=0.001, exchange_burst=1.0)))
    record_open([exchange], NOW + 1)
    exchange.finish("")
    assert [record.partial is not None and record.partial.ongoing for record in wire.records] == [True]
    assert wire.counters["dropped:rate_limit"] == 1
    assert isinstance(exchange.context.admission, Admission)
