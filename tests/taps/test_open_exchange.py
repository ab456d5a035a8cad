"""What is collected of an exchange, and that it ends once."""

from dataclasses import replace

import msgspec
import pytest

from sp_proxy.core.admission import Admission, AdmissionConfig, RateConfig
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.inject import RANDOM_BITS
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.taps.open_exchange import OpenExchange
from tests.taps.rig import ENDS, NOW, Wire


def opened(wire: Wire, *, capture: bool = True) -> OpenExchange:
    exchange = OpenExchange(wire.context, ENDS, NOW, b"GET", b"/a", b"host", "1.1", capture, "server[0]")
    block = b"\r\nhost: a\r\n"
    exchange.plan = wire.context.injector.plan(block, block, wire.context.random_bits(RANDOM_BITS))
    return exchange


def test_a_record_has_every_field_in_its_place():
    wire = Wire()
    exchange = opened(wire)
    exchange.request_fields = b"host: a\r\n"
    exchange.tee_request(b"xxbodyxx", 2, 6)
    exchange.request_trailers = b"a: b\r\n"
    exchange.scheme = "https"
    exchange.begin_response(NOW + 5, 201, b"content-type: text/plain\r\n", "")
    exchange.tee_response(b"answer", 0, 6)
    exchange.response_trailers = b"c: d\r\n"
    exchange.end_ns = NOW + 9
    exchange.finish("client_aborted")
    plan = exchange.plan
    assert plan is not None
    (record,) = wire.records
    assert msgspec.structs.asdict(record) == msgspec.structs.asdict(
        Exchange(
            direction=wire.context.direction,
            start_unix_ns=NOW,
            ttfb_ns=5,
            duration_ns=9,
            trace_id=bytes.fromhex(plan.trace_id.decode()),
            span_id=bytes.fromhex(plan.span_id.decode()),
            parent_span_id=b"",
            session_id=plan.session_id,
            service_name=b"shop",
            scheme="https",
            protocol_version="1.1",
            method=b"GET",
            target=b"/a",
            authority=b"host",
            request_fields=b"host: a\r\n",
            request_body=b"body",
            request_body_size=4,
            status=201,
            response_fields=b"content-type: text/plain\r\n",
            response_body=b"answer",
            response_body_size=6,
            client_address=ENDS.client_address,
            client_port=ENDS.client_port,
            server_address=ENDS.server_address,
            server_port=ENDS.server_port,
            request_trailers=b"a: b\r\n",
            response_trailers=b"c: d\r\n",
            error="client_aborted",
            rule="server[0]",
        )
    )


def test_it_ends_once():
    wire = Wire()
    exchange = opened(wire)
    exchange.finish("")
    exchange.finish("client_aborted")
    assert wire.errors == [""]
    assert wire.counters["captured"] == 1


def test_without_an_end_of_its_own_it_ended_when_it_is_finished():
    wire = Wire()
    exchange = opened(wire)
    wire.now += 7
    exchange.finish("upstream_aborted")
    assert [(record.duration_ns, record.ttfb_ns, record.status) for record in wire.records] == [(7, -1, 0)]


def test_what_is_not_captured_keeps_nothing():
    wire = Wire()
    exchange = opened(wire, capture=False)
    exchange.tee_request(b"body", 0, 4)
    exchange.begin_response(NOW, 200, b"a: b\r\n", "")
    exchange.tee_response(b"body", 0, 4)
    exchange.finish("")
    assert (exchange.request_body, exchange.response_body, exchange.response_fields, wire.records) == (
        b"",
        b"",
        b"",
        [],
    )
    assert (exchange.request_size, exchange.response_size) == (4, 4)


def test_what_the_response_forbids_is_given_up_with_all_that_was_kept():
    wire = Wire(policy=PolicyConfig())
    exchange = opened(wire)
    exchange.tee_request(b"body", 0, 4)
    exchange.begin_response(NOW, 200, b"content-type: image/png\r\n", "static")
    exchange.tee_response(b"body", 0, 4)
    exchange.finish("")
    assert (exchange.request_body, exchange.response_body, exchange.response_fields, wire.records) == (
        b"",
        b"",
        b"",
        [],
    )
    assert wire.counters == {"responses_skipped:static": 1}


@pytest.mark.parametrize("limit", [0, 1, 5, 6, 7, 100])
def test_a_body_is_kept_up_to_the_limit_in_any_pieces(limit):
    for pieces in (
        [b"012345"],
        [b"0", b"12345"],
        [b"012", b"", b"345"],
        [b"0", b"1", b"2", b"3", b"4", b"5"],
        [b"", b"012345"],
    ):
        exchange = opened(Wire(max_body_size=limit))
        for piece in pieces:
            exchange.tee_request(b"<" + piece + b">", 1, 1 + len(piece))
            exchange.tee_response(piece, 0, len(piece))
        assert bytes(exchange.request_body) == bytes(exchange.response_body) == b"012345"[:limit]
        assert (exchange.request_size, exchange.response_size) == (6, 6)
        assert exchange.wants_request == exchange.wants_response == (limit > 6)


def test_a_body_in_one_piece_is_not_copied():
    piece = b"x" * 1000
    exchange = opened(Wire())
    exchange.tee_response(piece, 0, len(piece))
    assert exchange.response_body is piece


def admitted(wire: Wire, config: AdmissionConfig) -> OpenExchange:
    wire.context = replace(wire.context, admission=Admission(config))
    exchange = opened(wire)
    exchange.begin_response(NOW + 5, 200, b"content-type: text/plain\r\n", "")
    exchange.tee_response(b"answer", 0, 6)
    return exchange


def test_what_is_sampled_out_makes_no_record_and_is_counted():
    wire = Wire()
    admitted(wire, AdmissionConfig(sampling_ratio=0.0)).finish("")
    assert wire.records == []
    assert wire.counters == {"captured": 1, "dropped:sampled_out": 1}


@pytest.mark.parametrize(
    "error,seconds,status,kept", [("", 0, 200, 0), ("client_aborted", 0, 200, 1), ("", 3, 200, 1), ("", 0, 503, 1)]
)
def test_errors_and_slow_exchanges_are_kept(error, seconds, status, kept):
    wire = Wire()
    exchange = admitted(wire, AdmissionConfig(sampling_ratio=0.0, keep_slower_than=3.0))
    exchange.status = status
    exchange.end_ns = NOW + seconds * 1_000_000_000
    exchange.finish(error)
    assert len(wire.records) == kept


def test_a_limit_counts_heads_and_bodies():
    wire = Wire()
    config = AdmissionConfig(limit=RateConfig(bytes=1.0, byte_burst=5.0))
    exchange = admitted(wire, config)
    exchange.finish("")  # takes more than there is, and leaves a debt
    second = opened(wire)
    second.status = 200
    second.finish("")
    assert len(wire.records) == 1
    assert wire.counters["dropped:rate_limit"] == 1
    late = opened(wire)
    late.status = 200
    late.end_ns = NOW + 60 * 1_000_000_000
    late.finish("")
    assert len(wire.records) == 2
