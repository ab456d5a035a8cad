"""What every store promises, on every engine: what is appended is found, once and in full."""

import pytest
import trio
from msgspec import structs

from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.query.syntax import EVERYTHING, Match, exactly
from sp_proxy.backend.store import BadCursorError, Keep
from tests.backend.requests import HOSTILE, START, batch_of, exchange_span, sdk_span
from tests.backend.stores import FAR, TRACE, log, logs, paths, summaries


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
