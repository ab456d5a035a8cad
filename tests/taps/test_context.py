"""What the relay may rely on in every tap."""

import inspect

import pytest

from sp_proxy.taps.context import Endpoints, Signal, Tap
from sp_proxy.taps.discard import Discard
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http2 import Http2Tap
from tests.taps.rig import ENDS, Wire

CALLS = {name: call for name, call in vars(Tap).items() if not name.startswith("_") and inspect.isfunction(call)}


@pytest.mark.parametrize("tap", [Discard, Http1Tap, Http2Tap])
def test_every_tap_has_every_call_with_the_same_arguments(tap):
    assert len(CALLS) >= 9
    for name, call in CALLS.items():
        parameters = inspect.signature(getattr(tap, name)).parameters.values()
        assert [(one.name, one.kind) for one in parameters] == [
            (one.name, one.kind) for one in inspect.signature(call).parameters.values()
        ]


def test_a_connection_that_goes_raw_is_counted_by_reason_and_by_port():
    wire = Wire().client(b"\x00\x01")
    wire.context.went_raw("tls", 443)
    assert wire.counters == {
        "raw:not_http": 1,
        f"raw_connections:{ENDS.server_port}:not_http": 1,
        "raw:tls": 1,
        "raw_connections:443:tls": 1,
        "abandoned": 0,
    }


@pytest.mark.parametrize("tap", [Http1Tap, Http2Tap])
def test_a_new_tap_is_idle_and_signals_nothing(tap):
    new: Tap = tap(Wire().context, ENDS)
    assert new.idle
    assert new.signal is Signal.NONE
    assert new.answer == b""


def test_only_the_usual_signal_is_false():
    """The relay asks ``if tap.signal`` after each call."""
    assert [signal for signal in Signal if not signal] == [Signal.NONE]


def test_endpoints_are_values():
    assert Endpoints("a", 1, "b", 2) == Endpoints("a", 1, "b", 2) != Endpoints("b", 2, "a", 1)


def test_a_context_is_frozen():
    with pytest.raises(AttributeError):
        Wire().context.strict = True  # type: ignore[misc]
