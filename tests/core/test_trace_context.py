"""W3C Trace Context, and what of it is written again."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sp_proxy.core.trace_context import (
    MAX_MEMBERS,
    MAX_TRACESTATE_BYTES,
    NOTHING,
    ParentContext,
    parse_traceparent,
    read,
    write_tracestate,
)

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)
OTHER_TRACE, OTHER_SPAN = b"1" * 32, b"2" * 16
OURS = b"x-sp-traceparent=00-%b-%b-01" % (OTHER_TRACE, OTHER_SPAN)
NEW_TRACE, NEW_SPAN = b"a" * 32, b"b" * 16
NEW = b"x-sp-traceparent=00-%b-%b-01" % (NEW_TRACE, NEW_SPAN)

# The grammar once more, in other words than the code's: level 2, section 3.3.1.3.
KEY = re.compile(rb"[a-z0-9][a-z0-9_*/@-]*")
VALUE = re.compile(rb"[\x20-\x7e]*[\x21-\x7e]")


def assert_valid_tracestate(value: bytes) -> list[bytes]:
    members = value.split(b",")
    assert len(members) <= MAX_MEMBERS
    assert len(value) <= MAX_TRACESTATE_BYTES
    keys = []
    for member in members:
        key, equals, text = member.partition(b"=")
        assert equals
        assert KEY.fullmatch(key)
        assert len(key) <= 256
        assert VALUE.fullmatch(text)
        assert b"=" not in text
        assert len(text) <= 256
        keys.append(key)
    assert len(set(keys)) == len(keys)
    return members


# ---- traceparent


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        b"00-%b-%b-00" % (TRACE, SPAN),
        b"00-%b-%b-ff" % (TRACE, SPAN),
        b"01-%b-%b-01" % (TRACE, SPAN),
        b"fe-%b-%b-01-what-comes-later" % (TRACE, SPAN),
        b"cc-%b-%b-01-" % (TRACE, SPAN),
    ],
)
def test_traceparents_that_are_read(value):
    assert parse_traceparent(value) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"1",
        GOOD + b"-",
        GOOD + b"-00",
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"0-" + GOOD[3:],
        b"zz" + GOOD[2:],
        b"fe" + GOOD[2:] + b".x",
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-01" % (TRACE[1:], SPAN),
        b"00-%b-%b-0g" % (TRACE, SPAN),
        b"00_%b_%b_01" % (TRACE, SPAN),
    ],
)
def test_traceparents_that_are_none(value):
    assert parse_traceparent(value) is None
    assert read(value, b"") is NOTHING


# ---- reading


def test_our_member_of_tracestate_wins_over_traceparent():
    assert read(GOOD, OURS) == ParentContext(OTHER_TRACE, OTHER_SPAN, b"", ())


def test_traceparent_alone_is_read():
    assert read(GOOD, b"") == ParentContext(TRACE, SPAN)
    assert read(GOOD, b"vendor=1") == ParentContext(TRACE, SPAN, b"", (b"vendor=1",))


def test_a_malformed_member_of_ours_is_absent_and_the_others_stay():
    assert read(b"", b"x-sp-traceparent=zz,v=1") == ParentContext(b"", b"", b"", (b"v=1",))
    assert read(GOOD, b"x-sp-traceparent=zz,v=1") == ParentContext(TRACE, SPAN, b"", (b"v=1",))


def test_the_first_member_of_ours_that_is_well_formed_is_taken():
    again = OURS.replace(OTHER_TRACE, b"3" * 32)
    assert read(b"", b"x-sp-traceparent=zz," + OURS + b"," + again).trace_id == OTHER_TRACE


def test_blanks_and_empty_members_are_allowed():
    state = b" a=1 ,, \t ,b=2\t," + OURS + b",\t"
    assert read(b"", state) == ParentContext(OTHER_TRACE, OTHER_SPAN, b"", (b"a=1", b"b=2"))


def test_the_session_is_read_and_its_member_stays_in_its_place():
    context = read(b"", b"a=1,x-sp-session-id=sess-42,b=2")
    assert context.session_id == b"sess-42"
    assert context.others == (b"a=1", b"x-sp-session-id=sess-42", b"b=2")


def test_of_two_members_with_one_key_the_newest_stays():
    context = read(b"", b"a=1,x-sp-session-id=new,a=2,x-sp-session-id=old,b=1,a=3")
    assert context.others == (b"a=1", b"x-sp-session-id=new", b"b=1")
    assert context.session_id == b"new"


@pytest.mark.parametrize(
    "member",
    [
        b"novalue",
        b"a=",
        b"=1",
        b"a==1",
        b"a=b=c",
        b"A=1",
        b"a b=1",
        b"a =1",
        b"-a=1",
        b"a=\xc3\xa9",
        b"a=\x01",
        b"a=\x7f",
        b"a=" + b"v" * 257,
        b"k" * 257 + b"=1",
        b"a\xe9=1",
    ],
)
def test_one_malformed_member_discards_the_whole_tracestate(member):
    assert read(b"", b"v=1," + OURS + b",x-sp-session-id=s," + member) is NOTHING
    assert read(GOOD, OURS + b"," + member) == ParentContext(TRACE, SPAN)


@pytest.mark.parametrize(
    "member", [b"a=1", b"0a=1", b"tenant@system=x y z", b"a_-*/9=!~", b"k" * 256 + b"=" + b"v" * 256]
)
def test_wellformed_members_are_kept(member):
    assert read(b"", member).others == (member,)


# ---- writing


def test_ours_come_first_then_the_others():
    parent = read(GOOD, b"a=1, b=2")
    assert write_tracestate(NEW_TRACE, NEW_SPAN, b"sess", parent) == NEW + b",x-sp-session-id=sess,a=1,b=2"


def test_a_session_that_the_request_carries_is_not_written_again():
    parent = read(b"", b"vendor=abc,x-sp-session-id=sess-42")
    assert write_tracestate(NEW_TRACE, NEW_SPAN, b"another", parent) == NEW + b",vendor=abc,x-sp-session-id=sess-42"


@pytest.mark.parametrize("session", [b"", b"a,b", b"a=b", b"a b", b"\xff", b"\x00", b"s" * 257])
def test_a_session_that_cannot_stand_in_a_tracestate_is_left_out(session):
    assert write_tracestate(NEW_TRACE, NEW_SPAN, session, NOTHING) == NEW


def test_more_than_32_members_lose_the_last():
    parent = read(b"", b",".join(b"k%d=v" % index for index in range(40)))
    members = assert_valid_tracestate(write_tracestate(NEW_TRACE, NEW_SPAN, b"s", parent))
    assert members == [NEW, b"x-sp-session-id=s", *(b"k%d=v" % index for index in range(30))]


def test_more_than_512_bytes_lose_the_large_members_first_and_then_the_last():
    large = [b"large%d=" % index + b"x" * 130 for index in range(3)]
    small = [b"small%d=" % index + b"y" * 20 for index in range(6)]
    parent = read(b"", b",".join([large[0], small[0], large[1], *small[1:], large[2]]))
    members = assert_valid_tracestate(write_tracestate(NEW_TRACE, NEW_SPAN, b"s", parent))
    assert members == [NEW, b"x-sp-session-id=s", large[0], *small]
    many = read(b"", b",".join(b"s%02d=" % index + b"y" * 40 for index in range(12)))
    members = assert_valid_tracestate(write_tracestate(NEW_TRACE, NEW_SPAN, b"s", many))
    assert members[2:] == list(many.others[: len(members) - 2])


def test_a_session_that_the_request_carries_is_never_removed():
    session = b"x-sp-session-id=" + b"s" * 200
    parent = read(b"", b",".join([*(b"k%d=%b" % (index, b"v" * 20) for index in range(40)), session]))
    members = assert_valid_tracestate(write_tracestate(NEW_TRACE, NEW_SPAN, b"", parent))
    assert members[-1] == session


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=150).map(str.encode)
members = st.one_of(
    st.builds(
        lambda key, value: key + b"=" + value, st.sampled_from([b"a", b"b", b"c", b"x-sp-session-id"]), printable
    ),
    st.integers(0, 60).map(lambda index: b"m%d=%d" % (index, index)),
    st.sampled_from([OURS, b"", b" ", b"x-sp-traceparent=00"]),
    st.binary(max_size=8),
)
tracestates = st.one_of(st.binary(max_size=200), st.lists(members, max_size=45).map(b",".join))


@given(
    st.one_of(st.binary(max_size=60), st.just(GOOD)), tracestates, st.one_of(st.binary(max_size=300), st.just(b"sess"))
)
@example(b"", b"x-sp-session-id=" + b"s" * 256, b"")
@example(GOOD, b"k" * 256 + b"=" + b"v" * 256, b"s" * 256)
def test_whatever_is_read_what_is_written_is_valid_and_reads_again(traceparent, tracestate, session):
    parent = read(traceparent, tracestate)
    written = write_tracestate(NEW_TRACE, NEW_SPAN, session, parent)
    assert_valid_tracestate(written)
    again = read(b"", written)
    assert (again.trace_id, again.span_id) == (NEW_TRACE, NEW_SPAN)
    if parent.session_id:
        assert again.session_id == parent.session_id
    elif again.session_id:
        assert again.session_id == session
    assert [member for member in again.others if member in parent.others] == [
        member for member in parent.others if member in again.others
    ]
    assert write_tracestate(NEW_TRACE, NEW_SPAN, session, again) == written
