"""What every store promises, on every engine."""

import os
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from sp_proxy.backend.log_model import LogBatch, LogFilter, StoredLog
from sp_proxy.backend.query.evaluate import predicate
from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.query.syntax import EVERYTHING, Match, exactly
from sp_proxy.backend.spans import read_request
from sp_proxy.backend.sqlite.store import open_store
from sp_proxy.backend.store import BadCursorError, Keep
from tests.backend.clickhouse.engine import fresh_store
from tests.backend.query.strategies import queries
from tests.backend.requests import (
    HOSTILE,
    START,
    attribute,
    batch_of,
    exchange_span,
    partial_span,
    request_of,
    sdk_span,
)

TRACE = b"t" * 16
FAR = 2**62


@pytest.fixture(params=["file", "memory", "clickhouse"])
def engine(request, tmp_path):
    """Opens a fresh store."""
    numbers = iter(range(1000))

    @asynccontextmanager
    async def fresh(max_bytes=1 << 30):
        if request.param == "clickhouse":
            async with fresh_store() as store:
                yield store
            return
        path = ":memory:" if request.param == "memory" else str(tmp_path / f"store-{next(numbers)}.sqlite3")
        async with open_store(path, max_bytes=max_bytes) as store:
            yield store

    return fresh


def summaries(appended):
    return [arrived.summary for arrived in appended.exchanges]


def ask(text):
    return parse(text, now_unix_ns=START)


async def paths(store, wanted=EVERYTHING, *, limit=1000):
    page = await store.exchanges(wanted, before="", limit=limit)
    return [exchange.path for exchange in page.exchanges]


async def test_an_empty_store(engine):
    async with engine() as store:
        assert (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges == []
        assert await store.span(b"s" * 8, None) is None
        assert await store.trace(TRACE, limit=10) == []
        assert (await store.sessions(EVERYTHING, before="", limit=10)).sessions == []
        assert await store.session("x", limit=10) is None
        assert await store.expire(Keep(FAR, 0)) == 0
        appended = await store.append(batch_of())
        assert (appended.stored, appended.duplicates, appended.exchanges) == (0, 0, [])
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.appended) == (0, 0, 0, 0)


async def test_what_is_appended_is_found_in_full(engine):
    span = exchange_span(trace=TRACE, span=b"s" * 8, parent=b"p" * 8, request_body="hello", response_body="x" * 5000)
    batch = batch_of(span, tenant="key", received=77)
    async with engine() as store:
        appended = await store.append(batch)
        record = await store.span(b"s" * 8, None)
        assert record is not None
        assert record.exchange == appended.exchanges[0].summary
        assert (record.trace_id, record.span_id, record.parent_span_id) == (TRACE.hex(), "73" * 8, "70" * 8)
        assert (record.tenant, record.received_unix_ns, record.kind) == ("key", 77, "server")
        assert record.resource == {"service.name": "orders"}
        assert record.details == batch.spans[0].details
        assert (record.request_body, record.response_body) == (b"hello", b"x" * 5000)
        page = await store.exchanges(EVERYTHING, before="", limit=10)
        assert page.exchanges == summaries(appended)
        assert page.next == ""


async def test_duplicates_are_ignored_within_a_batch_and_between_batches(engine):
    one = exchange_span(trace=TRACE, span=b"1" * 8, path="/first")
    again = exchange_span(trace=TRACE, span=b"1" * 8, path="/again")
    elsewhere = exchange_span(trace=b"u" * 16, span=b"1" * 8, path="/other-trace")
    async with engine() as store:
        first = await store.append(batch_of(one, again))
        assert (first.stored, first.duplicates, len(first.exchanges)) == (1, 1, 1)
        second = await store.append(batch_of(again, elsewhere))
        assert (second.stored, second.duplicates) == (1, 1)
        assert [one.summary.path for one in second.exchanges] == ["/other-trace"]
        third = await store.append(batch_of(one))
        assert (third.stored, third.duplicates) == (0, 1)
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.duplicates) == (2, 2, 1, 3)
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert record.name == "/first"
        newest = await store.span(b"1" * 8, None)
        assert newest is not None
        assert newest.name == "/other-trace"


IDS: dict[str, Any] = {"trace": TRACE, "span": b"1" * 8, "parent": b"0" * 8}


async def test_an_exchange_that_has_ended_takes_the_place_of_its_partial_record(engine):
    async with engine() as store:
        going_on = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one", status=503)))
        assert [one.partial for one in summaries(going_on)] == [True]
        await store.append(batch_of(sdk_span(trace=TRACE, parent=b"1" * 8)))
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert record.exchange is not None
        assert (record.exchange.partial, record.parent_span_id, record.response_body) == (True, "30" * 8, b"one")
        again = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one")))
        assert (again.stored, again.duplicates) == (0, 1)
        before = await store.stats()

        ended = await store.append(batch_of(exchange_span(**IDS, session="s", response_body="one two")))
        assert [one.partial for one in summaries(ended)] == [False]
        assert (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges == summaries(ended)
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert (record.exchange, record.response_body) == (ended.exchanges[0].summary, b"one two")
        assert len(await store.trace(TRACE, limit=10)) == 2
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions) == (before.spans, before.exchanges, before.sessions)
        (session,) = (await store.sessions(EVERYTHING, before="", limit=10)).sessions
        assert (session.exchanges, session.errors, session.services) == (1, 0, ["orders"])

        late = await store.append(batch_of(partial_span(**IDS, session="s")))
        assert (late.stored, late.duplicates, late.exchanges) == (0, 1, [])
        assert await store.expire(Keep(FAR, FAR)) == 2
        assert (await store.stats()).sessions == 0


arrivals = st.lists(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([b"1" * 8, b"2" * 8]),
            st.sampled_from(["", "s1", "s2"]),
            st.sampled_from(["orders", "payment"]),
            st.sampled_from([200, 503]),
            st.integers(0, 3),
        ),
        max_size=4,
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=arrivals)
def test_whatever_the_order_each_exchange_counts_once(engine, batches):
    """A model: the first of a kind stays, and what has ended takes the place of what goes on."""

    async def check():
        known: dict[bytes, tuple[Any, ...]] = {}
        async with engine() as store:
            for batch in batches:
                spans = []
                for partial, span, session, service, status, at in batch:
                    make = partial_span if partial else exchange_span
                    values = {"session": session, "service": service, "status": status, "at": at}
                    spans.append(make(trace=TRACE, span=span, **values))
                    if span not in known or (known[span][0] and not partial):
                        known[span] = (partial, session, service, status, START + at * 1_000_000)
                await store.append(batch_of(*spans))
            found = (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges
            assert {
                bytes.fromhex(each.span_id): (
                    *(each.partial, each.session_id, each.service, each.status, each.start_unix_ns),
                )
                for each in found
            } == known
            stats = await store.stats()
            assert (stats.spans, stats.exchanges) == (len(known), len(known))
            sessions = (await store.sessions(EVERYTHING, before="", limit=10)).sessions
            assert stats.sessions == len(sessions)
            assert {
                each.session_id: (
                    *(each.exchanges, each.errors, each.services, each.first_seen_unix_ns, each.last_seen_unix_ns),
                )
                for each in sessions
            } == {
                name: (
                    len(own),
                    sum(each[3] >= 500 for each in own),
                    sorted({each[2] for each in own}),
                    min(each[4] for each in own),
                    max(each[4] for each in own),
                )
                for name in {each[1] for each in known.values()} - {""}
                if (own := [each for each in known.values() if each[1] == name])
            }

    trio.run(check)


async def test_spans_of_sdks_join_the_trace_and_are_no_exchanges(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(trace=TRACE, span=b"1" * 8, at=0)))
        await store.append(batch_of(sdk_span(trace=TRACE, parent=b"1" * 8, at=1), sdk_span(), service="db"))
        spans = await store.trace(TRACE, limit=10)
        assert [(span.name, span.service, span.exchange is None) for span in spans] == [
            ("/api/orders?id=7", "orders", False),
            ("SELECT", "db", True),
        ]
        assert len(await paths(store)) == 1
        assert len(await store.trace(TRACE, limit=1)) == 1


async def test_newest_first_whatever_the_order_of_arrival(engine):
    async with engine() as store:
        for at in (5, 1, 9, 3):
            await store.append(batch_of(exchange_span(at=at, path=f"/{at}")))
        assert await paths(store) == ["/9", "/5", "/3", "/1"]


async def test_pages_are_complete_and_do_not_shift(engine):
    async with engine() as store:
        # Several exchanges of the same moment: the cursor must not skip or repeat any.
        await store.append(batch_of(*(exchange_span(at=number // 4, path=f"/{number}") for number in range(30))))
        seen, cursor = [], ""
        while True:
            page = await store.exchanges(EVERYTHING, before=cursor, limit=7)
            seen += [exchange.path for exchange in page.exchanges]
            await store.append(batch_of(exchange_span(at=1000 + len(seen))))
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == sorted(f"/{number}" for number in range(30))


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1.", ".1", "1.2.3", "-1.2", "1.x", f"{2**63}.1", "9" * 30 + ".1", "\u0661.\u0661"]
)
async def test_foreign_cursors(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.exchanges(EVERYTHING, before=cursor, limit=5)


@pytest.mark.parametrize("cursor", ["x", "1", "x.s", f"{2**63}.s"])
async def test_foreign_cursors_of_sessions(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.sessions(EVERYTHING, before=cursor, limit=5)


made = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["orders", "payment"]),
        "direction": st.sampled_from(["inbound", "outbound", "auto"]),
        "method": st.sampled_from(["GET", "POST"]),
        "host": st.sampled_from(["a", "b:80"]),
        "path": st.sampled_from(["/x", "/x%y", "/X_", HOSTILE]),
        "status": st.sampled_from([0, 200, 404, 503]),
        "session": st.sampled_from(["", "s1", "s2"]),
        "at": st.integers(0, 3),
        "trace": st.sampled_from([TRACE, b"u" * 16]),
        "response_body": st.sampled_from(["", '{"ok":true}', "Größe: x-ray, é", "okay"]),
        "more": st.sampled_from([{}, {"sp.tag.env": "prod"}, {"sp.tag.env": "", "sp.tag.team": "p"}]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(made, max_size=12), asked=st.lists(queries(), min_size=1, max_size=6))
def test_the_store_and_live_updates_answer_a_query_alike(engine, rows, asked):
    async def check():
        async with engine() as store:
            appended = await store.append(batch_of(*(exchange_span(**row) for row in rows)))
            for query in asked:
                found, cursor = [], ""
                while True:
                    page = await store.exchanges(query, before=cursor, limit=5)
                    found += page.exchanges
                    cursor = page.next
                    if not cursor:
                        break
                wants = predicate(query)
                expected = [one.summary for one in appended.exchanges if wants(one)]
                assert sorted(found, key=identity) == sorted(expected, key=identity)
                assert [one.start_unix_ns for one in found] == sorted(
                    (one.start_unix_ns for one in found), reverse=True
                )

    trio.run(check)


@pytest.mark.parametrize(
    "query, expected",
    [
        ("path:/api/*", ["/api/c", "/api/b", "/api/a"]),
        ("path:/api/? status>=400", ["/api/c"]),
        ("service:payment or session:s2", ["/other", "/api/b"]),
        ("not path:/api/*", ["/other"]),
        ("kingfisher", ["/api/b"]),
        ("KINGFISH*", ["/api/b"]),
        ("text:kingfish", []),
        ('"x-weather sunny"', ["/api/a"]),
        ("kingfisher or text:sunny", ["/api/b", "/api/a"]),
        ("-kingfisher path:/api/*", ["/api/c", "/api/a"]),
        ("tag.env:prod", ["/api/c"]),
        ("tag.env!=prod", ["/other", "/api/b", "/api/a"]),
        ("duration>=12ms time>=2023-11-14", ["/other", "/api/c", "/api/b", "/api/a"]),
        ("duration<12ms", []),
        ("time>=1700000000001000000ns time<1700000000003000000ns", ["/api/c", "/api/b"]),
        ("trace:" + "75" * 16, ["/other"]),
        ("trace:" + "75" * 16 + " kingfisher", []),
        ("span:" + "31" * 8, ["/api/a"]),
        ("-span:" + "31" * 8 + " path:/api/*", ["/api/c", "/api/b"]),
    ],
)
async def test_queries(engine, query, expected):
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(at=0, span=b"1" * 8, path="/api/a", more={"http.request.header.x-weather": "Sunny"}),
                exchange_span(at=1, path="/api/b", session="s2", response_body='{"bird": "Kingfisher"}'),
                exchange_span(at=2, path="/api/c", status=503, more={"sp.tag.env": "prod"}),
                exchange_span(at=3, path="/other", service="payment", trace=b"u" * 16),
            )
        )
        page = await store.exchanges(ask(query), before="", limit=10)
        assert [one.path for one in page.exchanges] == expected


async def test_text_is_found_whatever_its_encoding_says(engine):
    binary = {"http.response.header.content-type": "application/octet-stream"}
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(path="/text", response_body="plover"),
                exchange_span(path="/binary", response_body="cGxvdmVy", more=binary),
            )
        )
        assert await paths(store, ask("plover")) == ["/text"]
        assert await paths(store, ask("cGxvdmVy")) == []


async def test_tags_stand_on_the_resource_too(engine):
    async with engine() as store:
        request = request_of(exchange_span(path="/a"), exchange_span(path="/b", more={"sp.tag.env": "test"}))
        request.resource_spans[0].resource.attributes.append(attribute("sp.tag.env", "prod"))
        read = read_request(request, tenant="", now_unix_ns=1)
        (one, _) = (await store.append(read.batch)).exchanges
        assert one.tags == {"env": "prod"}
        assert await paths(store, ask("tag.env:prod")) == ["/a"]


def identity(exchange):
    return (exchange.trace_id, exchange.span_id)


async def test_sessions(engine):
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(session="a", at=1, service="orders"),
                exchange_span(session="a", at=9, service="payment", status=503),
                exchange_span(session="b", at=5),
                exchange_span(session="", at=7),
                sdk_span(at=100),
            )
        )
        await store.append(batch_of(exchange_span(session="a", at=4, service="orders", status=404)))
        page = await store.sessions(EVERYTHING, before="", limit=10)
        first, second = page.sessions
        assert (first.session_id, first.exchanges, first.errors, first.services) == ("a", 3, 1, ["orders", "payment"])
        assert (first.first_seen_unix_ns, first.last_seen_unix_ns) == (START + 1_000_000, START + 9_000_000)
        assert (second.session_id, second.exchanges, second.errors) == ("b", 1, 0)
        detail = await store.session("a", limit=2)
        assert detail is not None
        assert detail.session == first
        assert [exchange.start_unix_ns - START for exchange in detail.exchanges] == [1_000_000, 4_000_000]
        assert detail.truncated
        whole = await store.session("a", limit=3)
        assert whole is not None
        assert not whole.truncated
        assert whole.next == ""


async def test_pages_of_one_session(engine):
    """In order of time, each exchange once, those of one moment too."""
    async with engine() as store:
        spans = [exchange_span(session="a", at=number // 3) for number in range(10)]
        await store.append(batch_of(*spans, exchange_span(session="b", at=1)))
        seen, cursor = [], ""
        while True:
            page = await store.session("a", after=cursor, limit=4)
            assert page is not None
            assert page.truncated == bool(page.next)
            assert page.session.exchanges == 10
            seen += page.exchanges
            cursor = page.next
            if not cursor:
                break
        assert sorted(each.span_id for each in seen) == sorted(each.span_id.hex() for each in spans)
        assert [each.start_unix_ns for each in seen] == sorted(each.start_unix_ns for each in seen)
        with pytest.raises(BadCursorError):
            await store.session("a", after="yesterday", limit=4)


async def test_pages_of_sessions(engine):
    async with engine() as store:
        await store.append(batch_of(*(exchange_span(session=f"s.{number}", at=number // 3) for number in range(10))))
        seen, cursor = [], ""
        while True:
            page = await store.sessions(EVERYTHING, before=cursor, limit=4)
            seen += [session.session_id for session in page.sessions]
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == [f"s.{number}" for number in range(10)]


async def test_hostile_texts_come_back_as_they_were(engine):
    span = exchange_span(
        path=HOSTILE,
        host=HOSTILE,
        service=HOSTILE,
        session=HOSTILE,
        method="'; DROP TABLE spans; --",
        response_body=HOSTILE,
    )
    async with engine() as store:
        (exchange,) = (await store.append(batch_of(span))).exchanges
        (found,) = (await store.exchanges(Match("service", exactly(HOSTILE)), before="", limit=5)).exchanges
        assert found == exchange.summary
        assert found.path == HOSTILE
        detail = await store.session(HOSTILE, limit=5)
        assert detail is not None
        assert detail.session.services == [HOSTILE]
        record = await store.span(bytes.fromhex(found.span_id), None)
        assert record is not None
        assert record.response_body == HOSTILE.encode()


async def test_age_removes_whole_batches_in_order_of_arrival(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(session="a", at=1, path="/old"), sdk_span(), received=100))
        await store.append(batch_of(exchange_span(session="a", at=9, path="/new", service="other"), received=200))
        assert await store.expire(Keep(100, FAR)) == 0
        assert await store.expire(Keep(101, FAR)) == 2
        assert await paths(store) == ["/new"]
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.expired) == (1, 1, 1, 2)
        (session,) = (await store.sessions(EVERYTHING, before="", limit=5)).sessions
        assert (session.exchanges, session.services) == (1, ["other"])
        assert session.first_seen_unix_ns == session.last_seen_unix_ns == START + 9_000_000
        assert await store.expire(Keep(FAR, FAR)) == 1
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions) == (0, 0, 0)
        assert (await store.sessions(EVERYTHING, before="", limit=5)).sessions == []


async def test_a_clock_set_back_removes_nothing_too_early(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(path="/kept"), received=500))
        await store.append(batch_of(exchange_span(path="/later"), received=50))
        assert await store.expire(Keep(100, FAR)) == 0


async def test_size_removes_the_oldest_and_no_more_than_needed(engine):
    async with engine(max_bytes=1 << 20) as store:
        for number in range(30):
            body = os.urandom(30_000).hex()
            await store.append(batch_of(exchange_span(at=100 - number, path=f"/{number}", response_body=body)))
        before = (await store.stats()).bytes
        limit = before // 2
        removed = await store.expire(Keep(0, limit))
        stats = await store.stats()
        assert 0 < removed < 25
        assert limit * 0.7 < stats.bytes <= limit
        assert sorted(await paths(store)) == sorted(f"/{number}" for number in range(removed, 30))
        assert await store.expire(Keep(0, limit)) == 0


async def test_many_at_once(engine):
    batches = [batch_of(*(exchange_span(session=f"s{n}") for _ in range(5)), sdk_span()) for n in range(40)]
    async with engine() as store:
        stored = []

        async def append(batch):
            stored.append((await store.append(batch)).stored)
            await store.exchanges(EVERYTHING, before="", limit=3)

        async with trio.open_nursery() as nursery:
            for batch in batches:
                nursery.start_soon(append, batch)
                nursery.start_soon(append, structs.replace(batch))
        assert sum(stored) == 240
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.duplicates) == (240, 200, 40, 240)


async def test_a_cancelled_append_leaves_the_store_usable(engine):
    async with engine() as store:
        for _ in range(10):
            with trio.move_on_after(0):
                await store.append(batch_of(exchange_span()))
        await store.append(batch_of(exchange_span(path="/after")))
        assert "/after" in await paths(store)


async def test_the_two_halves_of_an_exchange_find_each_other(engine):
    """Whichever comes first; and a call is counted once."""
    out = exchange_span(trace=TRACE, span=b"1" * 8, service="orders", direction="outbound", host="pay:80")
    inside = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="pay:80")
    for first, second in ((out, inside), (inside, out)):
        async with engine() as store:
            (alone,) = summaries(await store.append(batch_of(first)))
            assert alone.peer == ""
            (joined,) = summaries(await store.append(batch_of(second)))
            assert joined.peer == ("payment" if second is out else "orders")
            page = await store.exchanges(EVERYTHING, before="", limit=5)
            assert {one.service: one.peer for one in page.exchanges} == {"orders": "payment", "payment": "orders"}
            assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]
            assert await paths(store, ask("peer:payment direction:outbound")) == ["/api/orders?id=7"]
        async with engine() as store:
            await store.append(batch_of(first, second))
            assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]


async def edges(store, since=START, until=START + 60 * 10**9):
    found = await store.service_map(since_unix_ns=since, until_unix_ns=until, limit=100)
    return [(edge.source, edge.host, edge.target, edge.requests, edge.errors) for edge in found.edges]


async def test_the_map(engine):
    minute = 60_000
    async with engine() as store:
        assert await edges(store) == []
        await store.append(
            batch_of(
                *(exchange_span(direction="outbound", service="orders", host="db", at=at) for at in range(3)),
                exchange_span(direction="outbound", service="orders", host="db", at=5, status=503),
                exchange_span(service="orders", host="shop", at=7),
                exchange_span(service="orders", host="shop", at=10 * minute),
                exchange_span(service="orders", host="shop", at=200 * minute),
                exchange_span(direction="auto", at=8),
                sdk_span(at=9),
            )
        )
        first = [("orders", "db", "", 4, 1), ("", "shop", "orders", 1, 0)]
        assert await edges(store) == first
        assert await edges(store, until=START + 11 * minute * 10**6) == [first[0], ("", "shop", "orders", 2, 0)]
        assert await edges(store, until=START + 300 * minute * 10**6) == [first[0], ("", "shop", "orders", 3, 0)]
        assert await edges(store, since=START + minute * 10**6, until=START + 2 * minute * 10**6) == []
        found = await store.service_map(since_unix_ns=START, until_unix_ns=START + 10**9, limit=1)
        assert len(found.edges) == 1
        (edge,) = found.edges
        assert edge.p50_ns == pytest.approx(12_000_000, rel=0.1)
        assert edge.p95_ns == pytest.approx(12_000_000, rel=0.1)
        assert found.since_unix_ns <= START < START + 10**9 <= found.until_unix_ns


async def test_what_goes_on_is_no_call_until_it_ends(engine):
    ids: dict[str, Any] = {"trace": TRACE, "span": b"1" * 8, "direction": "outbound", "host": "pay:80"}
    inside = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="pay:80")
    async with engine() as store:
        await store.append(batch_of(partial_span(**ids)))
        await store.append(batch_of(inside))
        assert await edges(store) == [("", "pay:80", "payment", 1, 0)]
        (ended,) = summaries(await store.append(batch_of(exchange_span(**ids))))
        assert ended.peer == "payment"
        assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]


async def test_traces(engine):
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(trace=TRACE, span=b"2" * 8, at=5, service="payment", status=503, path="/late"),
                sdk_span(trace=b"u" * 16, name="SELECT", at=1),
                service="db",
            )
        )
        await store.append(batch_of(exchange_span(trace=TRACE, span=b"1" * 8, at=2, path="/early")))
        page = await store.traces(EVERYTHING, before="", limit=10)
        first, second = page.traces
        assert (first.trace_id, first.name, first.service) == (TRACE.hex(), "GET /early", "orders")
        assert (first.start_unix_ns, first.duration_ns) == (START + 2_000_000, 15_000_000)
        assert (first.spans, first.exchanges, first.errors, first.services) == (2, 2, 1, ["orders", "payment"])
        assert (second.name, second.service, second.spans, second.exchanges) == ("SELECT", "db", 1, 0)
        assert page.next == ""
        assert (await store.stats()).traces == 2


async def test_pages_of_traces(engine):
    async with engine() as store:
        await store.append(batch_of(*(sdk_span(at=number // 3) for number in range(10))))
        seen, cursor = [], ""
        while True:
            page = await store.traces(EVERYTHING, before=cursor, limit=4)
            seen += [trace.trace_id for trace in page.traces]
            cursor = page.next
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == 10


@pytest.mark.parametrize("cursor", ["x", "1", "1.zz", "x.00", f"{2**63}.00"])
async def test_foreign_cursors_of_traces(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.traces(EVERYTHING, before=cursor, limit=5)


async def every_page(store, ask_for, query):
    """Names of all pages, of two each; and no page is the last one over again."""
    seen, cursor = [], ""
    while True:
        page = await getattr(store, ask_for)(query, before=cursor, limit=2)
        seen += [getattr(one, {"traces": "name", "sessions": "session_id"}[ask_for]) for one in getattr(page, ask_for)]
        assert page.next != cursor or not cursor
        cursor = page.next
        if not cursor:
            return seen


async def test_traces_and_sessions_with_an_exchange_that_fits(engine):
    """Each once, by its newest exchange that fits, whatever else is in it."""
    async with engine() as store:
        for at, (trace, session) in enumerate(map(tuple, ["a1", "b2", "c1", "a1", "d3", "b2", "a3", "e "])):
            await store.append(
                batch_of(
                    exchange_span(
                        trace=trace.encode() * 16,
                        session=session.strip(),
                        at=at,
                        path=f"/{trace}",
                        status=503 if at % 2 == 0 else 200,
                        response_body="heron" if trace in "ad" else "",
                    )
                )
            )
        assert await every_page(store, "traces", ask("status>=500")) == ["GET /a", "GET /d", "GET /c"]
        assert await every_page(store, "traces", ask("status<500")) == ["GET /e", "GET /b", "GET /a"]
        assert await every_page(store, "traces", ask("path:/*")) == ["GET /e", "GET /a", "GET /b", "GET /d", "GET /c"]
        assert await every_page(store, "traces", ask("heron")) == ["GET /a", "GET /d"]
        assert await every_page(store, "traces", ask("nothing")) == []
        assert await every_page(store, "sessions", ask("path:/*")) == ["3", "2", "1"]
        assert await every_page(store, "sessions", ask("status>=500")) == ["3", "1"]
        assert await every_page(store, "sessions", ask("heron status<500")) == ["1"]
        (first, *_) = (await store.sessions(ask("heron"), before="", limit=5)).sessions
        assert (first.session_id, first.exchanges, first.errors) == ("3", 2, 2)
        with pytest.raises(BadCursorError):
            await store.traces(ask("heron"), before="x", limit=5)


def log(body="hello", *, at=0, trace=b"", span=b"", service="orders", severity=9):
    return StoredLog(
        time_unix_ns=START + at * 1_000_000,
        trace_id=trace,
        span_id=span,
        severity=severity,
        severity_text="INFO",
        service=service,
        body=body,
        resource=0,
        details={"attributes": {"at": at}},
    )


def logs(*records, received=1, tenant=""):
    return LogBatch(tenant, received, [{"service.name": "orders"}], list(records))


async def test_log_records(engine):
    async with engine() as store:
        await store.append_logs(
            logs(log("one", at=1, trace=TRACE, span=b"1" * 8), log("two", at=2), log("three", at=3))
        )
        await store.append_logs(
            logs(log("four", at=4, trace=TRACE, severity=17, service="payment"), log(HOSTILE, at=5))
        )
        await store.append_logs(logs())
        page = await store.logs(LogFilter(), before="", limit=10)
        assert [record.body for record in page.logs] == [HOSTILE, "four", "three", "two", "one"]
        assert (page.logs[4].trace_id, page.logs[4].span_id) == (TRACE.hex(), "31" * 8)
        assert (page.logs[4].resource, page.logs[4].details) == ({"service.name": "orders"}, {"attributes": {"at": 1}})
        for wanted, expected in (
            (LogFilter(trace_id=TRACE), ["four", "one"]),
            (LogFilter(trace_id=TRACE, span_id=b"1" * 8), ["one"]),
            (LogFilter(service="payment"), ["four"]),
            (LogFilter(severity_min=17), ["four"]),
            (LogFilter(trace_id=b"u" * 16), []),
        ):
            assert [record.body for record in (await store.logs(wanted, before="", limit=10)).logs] == expected
        first = await store.logs(LogFilter(), before="", limit=2)
        second = await store.logs(LogFilter(), before=first.next, limit=9)
        assert [record.body for record in first.logs + second.logs] == [record.body for record in page.logs]
        assert (await store.stats()).logs == 5
        with pytest.raises(BadCursorError):
            await store.logs(LogFilter(), before="x", limit=5)


async def test_log_records_expire_too(engine):
    async with engine() as store:
        await store.append_logs(logs(log("old"), received=100))
        await store.append_logs(logs(log("new"), received=200))
        await store.append(batch_of(exchange_span(), received=200))
        assert await store.expire(Keep(150, FAR)) == 1
        assert [record.body for record in (await store.logs(LogFilter(), before="", limit=5)).logs] == ["new"]
        assert await store.expire(Keep(FAR, FAR)) == 2
        stats = await store.stats()
        assert (stats.logs, stats.spans, stats.expired) == (0, 0, 3)


async def test_tenants_may_have_an_age_of_their_own(engine):
    async with engine() as store:
        for tenant in ("short", "long", "other"):
            await store.append(batch_of(exchange_span(path=f"/{tenant}"), tenant=tenant, received=100))
            await store.append_logs(logs(log(tenant), tenant=tenant, received=100))
        await store.append(batch_of(exchange_span(path="/later"), tenant="short", received=300))
        assert await store.expire(Keep(50, FAR, {"short": 150, "long": 0})) == 2
        assert sorted(await paths(store)) == ["/later", "/long", "/other"]
        assert await store.expire(Keep(200, FAR, {"short": 150, "long": 0})) == 2
        assert sorted(await paths(store)) == ["/later", "/long"]
        assert [record.body for record in (await store.logs(LogFilter(), before="", limit=5)).logs] == ["long"]


async def test_what_has_expired_is_found_no_more(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(trace=TRACE, path="/old", response_body="heron"), received=100))
        await store.append(batch_of(exchange_span(trace=TRACE, path="/new", response_body="heron"), received=200))
        await store.expire(Keep(150, FAR))
        assert await paths(store, ask("heron")) == ["/new"]
        (trace,) = (await store.traces(EVERYTHING, before="", limit=5)).traces
        assert (trace.spans, trace.exchanges) == (1, 1)
        await store.expire(Keep(FAR, FAR))
        assert await paths(store, ask("heron")) == []
        assert (await store.traces(EVERYTHING, before="", limit=5)).traces == []
        assert await edges(store) == []
        assert (await store.stats()).traces == 0
