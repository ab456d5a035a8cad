"""What is known of a connection: its ends, whether it is idle, and how its exchanges end."""

import pytest

from sp_proxy.mitm.live import Connections, Live
from sp_proxy.taps.context import Endpoints
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.open_exchange import OpenExchange
from tests.taps.rig import ENDS, Wire

CLIENT = ("10.0.0.1", 40000)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def opened(wire: Wire) -> OpenExchange:
    exchange = OpenExchange(wire.context, ENDS, 1, b"GET", b"/", b"a", "1.1", True, "")
    exchange.plan = wire.context.injector.plan(b"\r\n", b"\r\n", 1)
    return exchange


def test_the_destination_is_the_original_one_or_where_it_went(wire: Wire):
    peer = ("10.0.0.9", 443)
    assert Live(wire.context, CLIENT, ("10.0.0.2", 80)).endpoints(peer) == Endpoints(*CLIENT, "10.0.0.2", 80)
    assert Live(wire.context, CLIENT, None).endpoints(peer) == Endpoints(*CLIENT, *peer)
    assert Live(wire.context, CLIENT, None).endpoints(None) == Endpoints(*CLIENT, "", 0)


def test_idle(wire: Wire):
    live = Live(wire.context, CLIENT, None)
    assert live.idle
    live.exchanges["1"] = opened(wire)
    assert not live.idle
    live.exchanges.clear()
    tap = Http1Tap(wire.context, ENDS)
    live.taps.append(tap)
    assert live.idle
    tap.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not live.idle
    live.taps.clear()
    live.raw = True
    assert not live.idle


def test_what_is_open_ends_with_the_connection(wire: Wire):
    live = Live(wire.context, CLIENT, None)
    answered, waiting = opened(wire), opened(wire)
    answered.response_ended = True
    live.exchanges.update({"1": answered, "2": waiting})
    tap = Http1Tap(wire.context, ENDS)
    tap.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    live.taps.append(tap)
    live.close("client_aborted")
    assert [record.error for record in wire.records] == ["", "client_aborted", "client_aborted"]
    live.close("client_aborted")
    assert len(wire.records) == 3


def test_what_goes_on_is_recorded_wherever_it_is_watched(wire: Wire):
    live = Live(wire.context, CLIENT, None)
    live.exchanges["1"] = opened(wire)
    tap = Http1Tap(wire.context, ENDS)
    tap.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    live.taps.append(tap)
    live.record_open(1)
    assert wire.records == []
    live.record_open(wire.now + 1)
    live.record_open(wire.now + 1)
    assert [record.partial is not None and record.partial.ongoing for record in wire.records] == [True, True]


def test_connections_are_found_by_id(wire: Wire):
    connections = Connections()
    connections["a"] = Live(wire.context, CLIENT, None)
    assert connections.get("b") is None
