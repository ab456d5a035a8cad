import pytest
import trio
import trio.testing
from clickhouse_connect.driver.exceptions import ClickHouseError

from sp_proxy.backend.clickhouse import store as module
from sp_proxy.backend.clickhouse.schema import MIGRATIONS, Place
from sp_proxy.backend.clickhouse.store import one_line, open_store, prepare
from sp_proxy.backend.model import BackendError, StoreError
from sp_proxy.backend.query.syntax import EVERYTHING
from tests.backend.clickhouse.engine import client, fresh_store
from tests.backend.requests import batch_of, exchange_span


@pytest.fixture
def database():
    name = "kept"
    yield name
    client().command(f"DROP DATABASE IF EXISTS {name}")


async def test_what_was_stored_is_there_after_reopening(database):
    async with fresh_store(database=database) as store:
        await store.append(batch_of(exchange_span(path="/kept")))
    async with fresh_store(database=database) as store:
        page = await store.exchanges(EVERYTHING, before="", limit=5)
        assert [exchange.path for exchange in page.exchanges] == ["/kept"]


async def test_two_stateless_stores_on_the_same_tables(database):
    span = exchange_span(path="/one")
    async with fresh_store(database=database) as one, fresh_store(database=database) as other:
        assert (await one.append(batch_of(span))).stored == 1
        again = await other.append(batch_of(span, exchange_span(path="/two")))
        assert (again.stored, again.duplicates) == (1, 1)
        for store in (one, other):
            assert len((await store.exchanges(EVERYTHING, before="", limit=5)).exchanges) == 2
            stats = await store.stats()
            assert (stats.spans, stats.appended, stats.duplicates) == (2, 2, 1)


async def test_the_same_span_stored_by_two_at_the_same_moment_is_one(database, monkeypatch):
    """Neither sees the other's; the newest version of a row is one row all the same."""

    async def nothing(_self, _spans):
        return {}

    span = exchange_span(path="/one")
    async with fresh_store(database=database) as store:
        monkeypatch.setattr(module.ClickhouseStore, "_known", nothing)
        await store.append(batch_of(span))
        await store.append(batch_of(span))
        assert len((await store.exchanges(EVERYTHING, before="", limit=5)).exchanges) == 1


async def test_waiting_batches_are_one_insert(monkeypatch):
    inserts = []
    async with fresh_store() as store:
        original = store._insert

        async def noting(batches):
            inserts.append(len(batches))
            return await original(batches)

        monkeypatch.setattr(store, "_insert", noting)
        async with trio.open_nursery() as nursery, store._lock:
            for _ in range(10):
                nursery.start_soon(store.append, batch_of(exchange_span()))
            await trio.testing.wait_all_tasks_blocked()
    assert inserts == [10]


async def test_a_failure_is_one_line_and_passes():
    async with fresh_store() as store:
        table = store._place.table("spans")
        client().command(f"RENAME TABLE {table} TO {table}_away")
        with pytest.raises(StoreError, match=r"^ClickHouse: Code: 60") as failure:
            await store.append(batch_of(exchange_span()))
        assert "\n" not in str(failure.value)
        with pytest.raises(StoreError):
            await store.exchanges(EVERYTHING, before="", limit=5)
        client().command(f"RENAME TABLE {table}_away TO {table}")
        assert (await store.append(batch_of(exchange_span()))).stored == 1


def test_newer_tables_are_refused(database):
    prepare(client(), Place(database))
    prepare(
        client(),
        Place(database),
        (*MIGRATIONS, lambda place: [f"ALTER TABLE {place.stored('logs')} ADD COLUMN x String"]),
    )
    with pytest.raises(BackendError, match="version 2 of database kept is newer than this sp_proxy knows"):
        prepare(client(), Place(database))


async def test_a_server_that_is_not_there():
    def connect():
        raise ClickHouseError("no\nroute")

    with pytest.raises(BackendError, match=r"^backend.clickhouse: no route$"):
        async with open_store(connect, Place("x"), retention=lambda _tenant: 1.0, slack=0):
            pass


def test_long_messages_are_cut():
    assert len(one_line(ValueError("x" * 1000))) == 300
