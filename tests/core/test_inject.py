"""What is injected: contract section 3, line by line."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.inject import RANDOM_BITS, HeaderConfig, Injector, Plan, value, values
from sp_proxy.core.trace_context import MAX_MEMBERS, MAX_TRACESTATE_BYTES, parse_traceparent, read
from tests.golden.differences import difference, load

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
TRACEPARENT = b"00-%b-%b-01" % (TRACE, SPAN)
OURS = b"x-sp-traceparent=00-%b-%b-01" % (b"1" * 32, b"2" * 16)
BITS = random.Random(7).getrandbits(RANDOM_BITS)
SESSION = rb"sp-session-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def plan(*lines: bytes, config: HeaderConfig | None = None, bits: int = BITS) -> Plan:
    block = b"\r\n" + b"".join(line + b"\r\n" for line in (b"Host: a", *lines))
    return Injector(config or HeaderConfig("shop")).plan(block.lower(), block, bits)


# ---- service name


def test_the_service_name_is_set_and_an_existing_one_removed():
    assert plan().static.startswith(b"x-sp-service-name: shop\r\n")
    assert plan().remove == ()
    assert plan(b"X-SP-Service-Name: other").remove == (b"x-sp-service-name",)


def test_the_old_headers_carry_the_same_name_while_the_setting_is_on():
    old = b"x-service-name: shop\r\nx-current-service: shop-workload\r\n"
    assert plan().static == b"x-sp-service-name: shop\r\n" + old
    assert set(plan(b"x-service-name: a", b"X-Current-Service: b").remove) == {b"x-service-name", b"x-current-service"}
    off = plan(b"x-service-name: a", config=HeaderConfig("shop", compat_headers=False))
    assert off.static == b"x-sp-service-name: shop\r\n"
    assert off.remove == ()


def test_without_a_name_of_our_own_the_request_names_the_service():
    nameless = HeaderConfig("", compat_headers=False)
    named = plan(b"x-sp-service-name:  Other ", config=nameless)
    assert (named.service_name, named.static) == (b"Other", b"x-sp-service-name: Other\r\n")
    assert named.remove == (b"x-sp-service-name",)
    assert plan(config=nameless).service_name == b"unknown-service"
    assert plan(b"x-sp-service-name:", config=nameless).static == b"x-sp-service-name: unknown-service\r\n"
    assert plan(b"x-sp-service-name: other").service_name == b"shop"


def test_debug_headers_stand_there_only_when_configured():
    config = HeaderConfig("shop", compat_headers=False, debug_headers=(("X-Debug-Hostname", "pod-7"),))
    added = plan(b"x-debug-hostname: mine", b"x-debug-pod-name: theirs", config=config)
    assert added.static == b"x-sp-service-name: shop\r\nX-Debug-Hostname: pod-7\r\n"
    assert added.remove == (b"x-debug-hostname",)
    assert b"debug" not in plan().static


# ---- trace


def test_a_new_trace_has_random_ids_in_both_headers():
    new = plan()
    assert (len(new.trace_id), len(new.span_id), new.parent_span_id) == (32, 16, b"")
    assert new.traceparent == b"00-%b-%b-01" % (new.trace_id, new.span_id)
    assert re.fullmatch(rb"x-sp-traceparent=" + new.traceparent + rb",x-sp-session-id=" + SESSION, new.tracestate)
    other = plan(bits=random.Random(8).getrandbits(RANDOM_BITS))
    assert not {new.trace_id, new.span_id, new.session_id} & {other.trace_id, other.span_id, other.session_id}


def test_ids_are_never_all_zero():
    assert parse_traceparent(plan(bits=0).traceparent) == (b"%032x" % 1, b"%016x" % 1)
    assert parse_traceparent(plan(b"x-sp-num: 1", bits=0).traceparent) == (b"%032x" % 1, b"%016x" % 1)


def test_a_traceparent_is_the_parent_and_stays():
    known = plan(b"Traceparent: " + TRACEPARENT)
    assert (known.trace_id, known.parent_span_id, known.traceparent) == (TRACE, SPAN, b"")
    assert known.remove == ()
    assert known.tracestate.startswith(b"x-sp-traceparent=00-%b-%b-01," % (TRACE, known.span_id))
    assert known.span_id != SPAN


def test_our_member_in_tracestate_wins_and_is_replaced():
    known = plan(b"traceparent: " + TRACEPARENT, b"TraceState: " + OURS + b",vendor=abc")
    assert (known.trace_id, known.parent_span_id, known.traceparent) == (b"1" * 32, b"2" * 16, b"")
    assert known.remove == (b"tracestate",)
    state = rb"x-sp-traceparent=00-%b-%b-01,x-sp-session-id=%b,vendor=abc" % (b"1" * 32, known.span_id, SESSION)
    assert re.fullmatch(state, known.tracestate)


def test_our_member_without_a_traceparent_gets_one_of_the_same_trace():
    known = plan(b"tracestate: " + OURS)
    assert known.traceparent == b"00-%b-%b-01" % (b"1" * 32, known.span_id)


def test_tracestate_fields_are_read_as_one_in_their_order():
    known = plan(b"tracestate: a=1", b"accept: */*", b"TraceState: " + OURS + b", b=2")
    assert known.tracestate.endswith(b",a=1,b=2")
    assert known.trace_id == b"1" * 32
    assert known.remove == (b"tracestate",)


@pytest.mark.parametrize(
    "lines",
    [
        [b"traceparent: 00-zz"],
        [b"traceparent:"],
        [b"traceparent: " + TRACEPARENT.upper()],
        [b"traceparent: " + TRACEPARENT, b"traceparent: " + TRACEPARENT],
        [b"traceparent: \xff\xfe"],
    ],
)
def test_a_malformed_traceparent_is_absent(lines):
    absent = plan(*lines)
    assert absent.remove == (b"traceparent",)
    assert absent.trace_id != TRACE
    assert absent.parent_span_id == b""
    assert absent.traceparent == b"00-%b-%b-01" % (absent.trace_id, absent.span_id)


def test_a_malformed_tracestate_is_absent():
    absent = plan(b"tracestate: " + OURS + b",broken")
    assert absent.remove == (b"tracestate",)
    assert absent.parent_span_id == b""
    assert b"broken" not in absent.tracestate


# ---- session


@pytest.mark.parametrize("name", [b"x-sp-session-id", b"SP_Session_Id", b"X-Session-ID", b"x-softprobe-session-id"])
def test_a_session_header_is_read(name):
    known = plan(name + b": sess-1")
    assert known.session_id == b"sess-1"
    assert known.tracestate.endswith(b",x-sp-session-id=sess-1")
    assert known.remove == ()


def test_session_headers_have_an_order_and_come_before_tracestate():
    lines = [b"x-softprobe-session-id: d", b"x-session-id: c", b"sp_session_id: b", b"x-sp-session-id: a"]
    for expected in (b"a", b"b", b"c", b"d"):
        assert plan(b"tracestate: x-sp-session-id=e", *lines).session_id == expected
        lines.pop()
    assert plan(b"tracestate: x-sp-session-id=e").session_id == b"e"
    assert plan(b"tracestate: x-sp-session-id=e", b"x-session-id: ").session_id == b"e"


def test_a_session_member_of_tracestate_stays_even_beside_a_header():
    known = plan(b"tracestate: v=1,x-sp-session-id=e", b"x-session-id: c")
    assert known.tracestate.endswith(b"-01,v=1,x-sp-session-id=e")


def test_other_headers_with_session_in_them_are_none():
    assert re.fullmatch(SESSION, plan(b"cookie: x-session-id=1; sp_session_id: 2", b"my-x-session-id: 3").session_id)


# ---- hops


@pytest.mark.parametrize(
    "number, expected",
    [
        (b"4", b"5"),
        (b"0", b"1"),
        (b" 007\t", b"8"),
        (b"999999999", b"1000000000"),
        (b"18446744073709551615", b"18446744073709551616"),
        (b"9" * 21, b"1"),
        (b"9" * 5000, b"1"),
        (b"", b"1"),
        (b"abc", b"1"),
        (b"-3", b"1"),
        (b"+3", b"1"),
        (b"1.5", b"1"),
        (b"1_0", b"1"),
        (b"\xb2", b"1"),
    ],
)
def test_the_number_of_hops_is_one_more_and_replaced(number, expected):
    counted = plan(b"X-SP-Num: " + number)
    assert counted.hops == expected
    assert counted.remove == (b"x-sp-num",)


def test_without_a_number_it_is_the_first_hop():
    assert plan().hops == b"1"
    assert plan(b"x-sp-number: 7").hops == b"1"


# ---- reading fields


def test_values_are_found_whatever_their_case_and_without_blanks():
    block = b"\r\nA: 1\r\nb:2\r\nA:\t 3 \r\nba: 4\r\n"
    assert values(block.lower(), block, b"a") == [b"1", b"3"]
    assert value(block.lower(), block, b"a") == b"1"
    assert values(block.lower(), block, b"c") == []
    assert value(block.lower(), block, b"c") == b""


# ---- against the filter


@pytest.mark.parametrize("exchange", load(), ids=lambda exchange: exchange["name"])
def test_trace_headers_are_those_of_the_filter_but_for_new_ids(exchange):
    """``DIFFERENCES`` names what is deliberately otherwise."""
    request = [(name.lower().encode(), text.encode()) for name, text in exchange["request"]["headers"]]
    names = {b"tracestate", b"traceparent", b"x-sp-num"}
    theirs = [(name.encode(), text.encode()) for name, text in exchange["upstream_request_headers"]]
    theirs = [(name, text) for name, text in theirs if name in names]
    if not any(name == b"tracestate" for name, _ in theirs) or difference(exchange["name"]).new_identity:
        return  # left alone, or with another identity
    ours = plan(*(name + b": " + text for name, text in request))
    kept = [(name, text) for name, text in request if name in names and name not in ours.remove]
    kept += [(b"tracestate", ours.tracestate), (b"x-sp-num", ours.hops)]
    if ours.traceparent:
        kept.append((b"traceparent", ours.traceparent))
    if exchange["name"].startswith("sp-num"):
        theirs.remove(next(field for field in theirs if field in request))  # the filter adds a second one
    assert sorted(map(_without_ids, kept)) == sorted(map(_without_ids, theirs))


def _without_ids(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    text = re.sub(rb"sp-session-[0-9a-f-]{36}", b"SESSION", field[1])
    return field[0], re.sub(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", b"IDS", text)


# ---- anything at all

field_values = st.one_of(
    st.binary(max_size=40), st.sampled_from([TRACEPARENT, OURS, OURS + b",a=1", b"x-sp-session-id=s", b"7"])
).map(lambda text: text.translate(None, b"\r\n\0"))
fields = st.lists(
    st.tuples(
        st.sampled_from(
            b"traceparent tracestate x-sp-num x-session-id x-sp-service-name x-service-name accept X-SP-SESSION-ID".split()
        ),
        field_values,
    ),
    max_size=8,
)


@given(fields, st.integers(0, (1 << RANDOM_BITS) - 1), st.sampled_from(["shop", ""]))
def test_whatever_comes_what_is_written_is_valid(lines, bits, name):
    planned = plan(*(key + b": " + text for key, text in lines), config=HeaderConfig(name), bits=bits)
    assert parse_traceparent(b"00-%b-%b-01" % (planned.trace_id, planned.span_id))
    assert planned.parent_span_id == b"" or re.fullmatch(rb"[0-9a-f]{16}", planned.parent_span_id)
    assert len(planned.tracestate) <= MAX_TRACESTATE_BYTES
    assert planned.tracestate.count(b",") < MAX_MEMBERS
    again = read(b"", planned.tracestate)
    assert (again.trace_id, again.span_id) == (planned.trace_id, planned.span_id)
    assert planned.hops.isdigit()
    assert planned.session_id
    assert set(planned.remove) <= {key.lower() for key, _ in lines}
    kept = [text for key, text in lines if key == b"traceparent" and key not in planned.remove]
    assert len(kept) + bool(planned.traceparent) == 1
    for line in planned.static.split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[a-z-]+: [^\r\n\0]+", line)


@given(fields)
def test_the_short_way_for_plain_requests_finds_the_same(lines):
    plain = [name + b": " + text for name, text in lines if name == b"accept"]
    short, long = plan(*plain), plan(*plain, b"x-unknown: 1")
    assert short == long
