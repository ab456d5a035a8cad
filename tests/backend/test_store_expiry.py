"""Every store: what is removed by age and by size, and that it is gone everywhere."""

import os

from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.store import Keep
from tests.backend.requests import START, batch_of, exchange_span, sdk_span
from tests.backend.stores import FAR, TRACE, ask, edges, log, logs, paths


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
