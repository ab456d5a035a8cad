import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from sp_proxy.backend.model import Arrived
from sp_proxy.backend.query.evaluate import predicate
from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.query.syntax import EVERYTHING, Not, text_of
from tests.backend.query.strategies import queries
from tests.backend.test_model import SUMMARY

ARRIVED = Arrived(
    structs.replace(SUMMARY, path="/api/orders?id=7", service="orders", status=503, duration_ns=12_000_000),
    {"env": "prod"},
    "/api/orders?id=7\nshop.local\ncafé order-17",
)


@pytest.mark.parametrize(
    "query, expected",
    [
        ("", True),
        ("service:orders", True),
        ("service:ord*", True),
        ("service:ord", False),
        ("service!=orders", False),
        ("path:*orders*", True),
        ("path:/api/*=7", True),
        ("status>=500 duration>10ms", True),
        ("status<500 or duration<10ms", False),
        ("tag.env:prod", True),
        ("tag.env:p?od", True),
        ("tag.team:*", False),
        ("-tag.team:x", True),
        ("café", True),
        ("caf", False),
        ("caf*", True),
        ("order 17", True),
        ("order 18", False),
        ("id", True),
        ("afé", False),
        (f"trace:{SUMMARY.trace_id}", True),
        ("trace:" + "00" * 16, False),
        ("time>2000-01-01", False),
        (f"time={SUMMARY.start_unix_ns}ns", True),
        (f"session={SUMMARY.session_id}", True),
    ],
)
def test_queries(query, expected):
    assert predicate(parse(query, now_unix_ns=0))(ARRIVED) is expected


arrivals = st.builds(
    lambda service, path, status, session, tags, text: Arrived(
        structs.replace(SUMMARY, service=service, path=path, status=status, session_id=session), tags, text
    ),
    st.sampled_from(["orders", "payment", ""]),
    st.sampled_from(["/x", "x%y", "X_", "\x00", "<script>"]),
    st.sampled_from([0, 200, 404, 500]),
    st.sampled_from(["", "s1"]),
    st.sampled_from([{}, {"env": "prod"}, {"env": "", "team": "p"}]),
    st.sampled_from(["", "ok", "okay, true", "é x", "alert(1)"]),
)


@given(queries(), st.lists(arrivals, max_size=8))
@example(EVERYTHING, [ARRIVED])
@example(Not(EVERYTHING), [ARRIVED])
def test_what_is_written_in_the_language_asks_the_same(query, rows):
    text = text_of(query)
    assert "\n" not in text
    one, other = predicate(query), predicate(parse(text, now_unix_ns=0))
    assert [one(row) for row in rows] == [other(row) for row in rows]
