import time

from sp_proxy.backend.clickhouse import store as module
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.store import Keep
from tests.backend.clickhouse.engine import fresh_store
from tests.backend.requests import batch_of, exchange_span

FAR = 2**62
TRACE = b"t" * 16


async def test_halves_that_two_processes_stored_at_once_are_joined_later(monkeypatch):
    async def nothing(_self, _spans):
        return {}

    out = exchange_span(trace=TRACE, span=b"1" * 8, service="orders", direction="outbound")
    inside = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment")
    async with fresh_store() as store:
        with monkeypatch.context() as blind:
            blind.setattr(module.ClickhouseStore, "_known", nothing)
            await store.append(batch_of(out))
            await store.append(batch_of(inside))

        async def peers():
            page = await store.exchanges(EVERYTHING, before="", limit=5)
            return {exchange.service: exchange.peer for exchange in page.exchanges}

        assert await peers() == {"orders": "", "payment": ""}
        assert await store.expire(Keep(0, FAR)) == 0
        assert await peers() == {"orders": "payment", "payment": "orders"}


async def test_old_rows_go_when_enough_are_old():
    now = time.time_ns()
    async with fresh_store() as store:
        store._upkeep._slack_ns = 1000
        await store.append(batch_of(exchange_span(path="/old"), received=now))
        await store.append(batch_of(exchange_span(path="/older"), received=now + 900))
        assert await store.expire(Keep(now + 950, FAR)) == 0
        assert await store.expire(Keep(now + 2000, FAR)) == 2
        assert (await store.stats()).expired == 2
