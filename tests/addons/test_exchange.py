"""What hooks read and change."""

import pytest

from sp_proxy.addons.exchange import CapturedExchange, WrongReturnError, instead, unchanged
from sp_proxy.addons.wire import MAX_COPIES, MAX_TAGS, Emitted
from sp_proxy.core.exchange import Partial
from tests.exporter.rig import make_exchange


def captured(**values) -> CapturedExchange:
    return CapturedExchange(make_exchange(3, **values), [], 7)


def test_it_tells_what_was_captured():
    ex = captured(rule="server[0]", error="client_aborted")
    assert (ex.direction, ex.method, ex.scheme, ex.path, ex.host) == (
        *("inbound", "POST", "http", "/orders?n=3", "orders.shop:8080"),
    )
    assert ex.query == {"n": "3"}
    assert (ex.status, ex.error, ex.rule, ex.protocol_version) == (201, "client_aborted", "server[0]", "1.1")
    assert ex.start == pytest.approx(1_700_000_000, abs=1)
    assert (ex.duration, ex.time_to_first_byte) == (0.002, 0.001)
    assert captured(ttfb_ns=-1).time_to_first_byte is None
    assert (ex.trace_id, ex.span_id, ex.session_id) == (f"{3:032x}", f"{3:016x}", "sp-session-1")
    assert (ex.client_address, ex.server_address, ex.server_port) == ("10.0.0.1", "10.0.0.2", 8080)
    assert (ex.service_name, ex.name, ex.tags, ex.ongoing) == ("orders", "", {}, False)
    assert captured(partial=Partial(b"12345678", ongoing=True)).ongoing
    assert ex.request.json() == {"sku": "A-1"}
    assert ex.response.headers["content-type"] == "application/json"
    assert not ex.is_changed


def test_it_takes_changes():
    ex = captured(tags=(("of", "request hook"),))
    ex.path, ex.host, ex.service_name = "/orders", "o", "billing"
    ex.name, ex.client_address = "POST /orders", ""
    ex.tag("tenant", 7)
    ex.tag("odd", "\udc80")
    ex.request.content = "{}"
    ex.response.headers["x"] = "y"
    assert ex.is_changed
    made = ex.changed()
    assert (made.of, made.target, made.authority, made.service_name) == (7, b"/orders", b"o", b"billing")
    assert (made.name, made.client_address) == ("POST /orders", "")
    assert made.tags == (("of", "request hook"), ("tenant", "7"), ("odd", "?"))
    assert (made.request_body, made.request_body_size) == (b"{}", 2)
    assert made.response_fields == b"Content-Type: application/json\r\nx: y\r\n"


def test_it_refuses_what_would_break_a_record():
    ex = captured()
    for name in ("", "a b", "ü", "x" * 65):
        with pytest.raises(ValueError, match="tag"):
            ex.tag(name, 1)
    for line in ("a\r\nb", "a\0", "x" * 70000):
        with pytest.raises(ValueError, match="one line"):
            ex.path = line
    for number in range(MAX_TAGS):
        ex.tag(f"t{number}", number)
    with pytest.raises(ValueError, match="tags"):
        ex.tag("more", 1)
    ex.tag("t0", "again")


def test_metrics_are_noted():
    emitted: list[Emitted] = []
    ex = CapturedExchange(make_exchange(), emitted)
    ex.count("orders", version="v2", tenant=3)
    ex.observe("order_value", 2.5)
    assert emitted == [
        Emitted("orders", (("tenant", "3"), ("version", "v2")), 1.0, 0),
        Emitted("order_value", (), 2.5, 1),
    ]
    for name, amount, labels in (
        ("Orders", 1, {}),
        ("orders", -1, {}),
        ("orders", float("nan"), {}),
        ("orders", 1, {"addon": "x"}),
        ("orders", 1, {"A": "x"}),
        ("orders", 1, {f"l{number}": 1 for number in range(9)}),
    ):
        with pytest.raises(ValueError):
            ex.count(name, amount, **labels)


def test_answers_of_a_hook():
    ex = captured()
    other = ex.copy()
    assert instead(ex, None) == [ex]
    assert instead(ex, [ex, other]) == [ex, other]
    assert instead(ex, []) == []
    ex.drop()
    assert instead(ex, None) == []
    assert instead(ex, [ex, other]) == [other]
    for answer in (False, "x", [1], {ex}):
        with pytest.raises(WrongReturnError):
            instead(ex, answer)
    for wrong in (
        [other, other],
        [ex.copy() for _ in range(MAX_COPIES + 1)],
        [CapturedExchange(make_exchange(), [], 1)],
    ):
        with pytest.raises(WrongReturnError):
            instead(ex, wrong)


def test_a_copy_goes_its_own_way():
    ex = captured()
    ex.tag("a", 1)
    ex.request.content = "one"
    other = ex.copy()
    other.tag("b", 2)
    other.request.content = "two"
    assert ex.tags == {"a": "1"}
    assert (ex.changed().request_body, other.changed().request_body) == (b"one", b"two")
    assert captured().copy().changed() == unchanged(make_exchange(3), 7)
