from sp_proxy.backend.clickhouse.arrival import Arrival, Known, asked_for, identity_of
from tests.backend.requests import batch_of, exchange_span, partial_span, sdk_span

TRACE = b"t" * 16


def span(letter, parent=b"", *, make=exchange_span, **more):
    (made,) = batch_of(make(trace=TRACE, span=letter * 8, parent=parent * 8, **more)).spans
    return made


def stored(one, *, peer=""):
    exchange = one.exchange
    direction = exchange.direction if exchange else ""
    return {identity_of(one): Known(one.parent_span_id.hex(), one.partial, direction, one.service, peer, stored=True)}


PARTIAL = batch_of(partial_span(trace=TRACE, span=b"1" * 8)).spans[0]


def test_the_first_stays():
    first, again = span(b"1", path="/first"), span(b"1", path="/again")
    arrival = Arrival({})
    assert arrival.take([first, again]) == [first]
    assert arrival.take([again]) == []
    assert Arrival(stored(first)).take([again]) == []


def test_a_whole_exchange_takes_the_place_of_its_partial_record_and_not_the_other_way():
    whole = span(b"1")
    arrival = Arrival(stored(PARTIAL))
    assert arrival.take([PARTIAL, whole, PARTIAL]) == [whole]
    assert arrival.gone == {identity_of(whole)}
    fresh = Arrival({})
    assert fresh.take([PARTIAL]) == [PARTIAL]
    assert fresh.take([whole]) == [whole]
    assert (fresh.new, fresh.gone) == ({identity_of(whole): whole}, set())


def test_halves_find_each_other():
    out = span(b"1", service="orders", direction="outbound")
    inside = span(b"2", b"1", service="payment")
    for first, second in ((out, inside), (inside, out)):
        together = Arrival({})
        together.take([first, second])
        assert (together.peer_of(out), together.peer_of(inside), together.joined) == ("payment", "orders", {})
        later = Arrival(stored(first))
        later.take([second])
        assert later.joined == {identity_of(first): second.service}
        assert later.peer_of(second) == first.service


def test_a_call_has_one_callee():
    out = span(b"1", service="orders", direction="outbound")
    arrival = Arrival(stored(out, peer="payment"))
    shadow = span(b"3", b"1", service="shadow")
    arrival.take([shadow])
    assert (arrival.peer_of(shadow), arrival.joined) == ("orders", {})


def test_who_has_no_other_half():
    nobody: dict[tuple[str, str], Known] = {}
    for known in (
        nobody,
        stored(span(b"1")),
        stored(PARTIAL),
        stored(span(b"1", make=lambda **ids: sdk_span(trace=ids["trace"], span=ids["span"]))),
    ):
        arrival = Arrival(dict(known))
        inside = span(b"2", b"1", service="payment")
        arrival.take([inside])
        assert (arrival.peer_of(inside), arrival.joined) == ("", {})


def test_what_is_asked_for():
    traces, ids = asked_for([span(b"2", b"1"), span(b"3")])
    assert (traces, ids) == ([TRACE.hex()], ["31" * 8, "32" * 8, "33" * 8])
