import os
import sqlite3
import threading
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs

from sp_proxy.backend.model import BackendError, StoreError
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.sqlite import database
from sp_proxy.backend.sqlite import store as module
from sp_proxy.backend.sqlite.store import open_store
from tests.backend.requests import batch_of, exchange_span
from tests.backend.serving import until


async def test_what_was_stored_is_there_after_reopening(tmp_path):
    path = str(tmp_path / "db")
    async with open_store(path) as store:
        await store.append(batch_of(exchange_span(path="/kept")))
    assert not (tmp_path / "db-wal").exists()
    async with open_store(path) as store:
        page = await store.exchanges(EVERYTHING, before="", limit=5)
        assert [exchange.path for exchange in page.exchanges] == ["/kept"]


async def test_a_path_that_cannot_be(tmp_path):
    with pytest.raises(BackendError, match="there is no directory"):
        async with open_store(str(tmp_path / "no" / "db")):
            pass


async def test_waiting_batches_share_a_commit(tmp_path):
    async with open_store(str(tmp_path / "db")) as store:
        commits = 0

        def count(statement):
            nonlocal commits
            commits += statement == "COMMIT"

        store._writer.set_trace_callback(count)
        async with trio.open_nursery() as nursery, store._write_lock:
            for _ in range(30):
                nursery.start_soon(store.append, batch_of(exchange_span()))

            async def all_wait():
                return len(store._pending) == 30

            await until(all_wait)
        assert (await store.stats()).spans == 30
        assert commits == 1


async def test_readers_do_not_wait_for_the_writer(tmp_path):
    async with open_store(str(tmp_path / "db")) as store:
        await store.append(batch_of(exchange_span()))
        async with store._write_lock:
            store._writer.execute("BEGIN IMMEDIATE")
            with trio.fail_after(10):
                assert len((await store.exchanges(EVERYTHING, before="", limit=5)).exchanges) == 1
            store._writer.execute("ROLLBACK")


async def test_a_slow_query_is_given_up_and_the_next_one_works(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUERY_TIMEOUT", 0.05)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    for path in (str(tmp_path / "db"), ":memory:"):
        async with open_store(path) as store:
            with pytest.raises(StoreError, match="took longer than"):
                await store._read(lambda connection: connection.execute(endless).fetchone())
            assert (await store.stats()).spans == 0


async def test_the_event_loop_is_free_while_the_store_is_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUERY_TIMEOUT", 0.3)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    async with open_store(str(tmp_path / "db")) as store, trio.open_nursery() as nursery:

        async def slow():
            with pytest.raises(StoreError):
                await store._read(lambda connection: connection.execute(endless).fetchone())
            nursery.cancel_scope.cancel()

        nursery.start_soon(slow)
        turns = 0
        while True:
            await trio.sleep(0.001)
            turns += 1
            if nursery.cancel_scope.cancel_called or turns > 50:
                break
        assert turns > 20


async def test_damage_met_on_the_way_starts_a_fresh_file(tmp_path):
    path = tmp_path / "db"
    async with open_store(str(path)) as store:
        await store.append(batch_of(*(exchange_span(response_body=os.urandom(200).hex()) for _ in range(500))))
    async with open_store(str(path)) as store:
        wreck(path)
        with capture_logs() as logs:
            with pytest.raises(StoreError, match="cannot be read"):
                await store.exchanges(EVERYTHING, before="", limit=500)
            await store.append(batch_of(exchange_span(path="/fresh")))
            page = await store.exchanges(EVERYTHING, before="", limit=500)
        assert [exchange.path for exchange in page.exchanges] == ["/fresh"]
        assert (await store.stats()).databases_set_aside == 1
        assert [log["event"] for log in logs] == ["database_set_aside"]
    assert "db.damaged-1" in os.listdir(tmp_path)  # noqa: PTH208


async def test_damage_met_while_writing_starts_a_fresh_file_too(tmp_path):
    path = tmp_path / "db"
    async with open_store(str(path)) as store:
        await store.append(batch_of(*(exchange_span(response_body=os.urandom(200).hex()) for _ in range(500))))
    async with open_store(str(path)) as store:
        wreck(path)
        store._writer.execute("PRAGMA shrink_memory")  # or it works on from its cache for a while
        with pytest.raises(StoreError, match="cannot be written"):
            await store.append(batch_of(exchange_span()))
        assert (await store.append(batch_of(exchange_span()))).stored == 1
        assert (await store.stats()).databases_set_aside == 1


async def test_damage_is_met_once_however_many_were_reading(tmp_path):
    path = tmp_path / "db"
    async with open_store(str(path)) as store:
        await store.append(batch_of(*(exchange_span(response_body=os.urandom(200).hex()) for _ in range(500))))
    async with open_store(str(path)) as store:
        meeting = threading.Barrier(3)

        def read_together(connection):
            connection.execute("SELECT count(*) FROM spans").fetchone()
            meeting.wait(60)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(store._read, read_together)
        assert len(store._idle) == 3
        wreck(path)
        with pytest.raises(StoreError, match="cannot be read"):
            await store.exchanges(EVERYTHING, before="", limit=500)
        await store.append(batch_of(exchange_span(path="/fresh")))
        for _ in range(4):
            page = await store.exchanges(EVERYTHING, before="", limit=500)
            assert [exchange.path for exchange in page.exchanges] == ["/fresh"]
        assert (await store.stats()).databases_set_aside == 1


async def test_a_fresh_file_that_cannot_be_opened_is_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "db"
    async with open_store(str(path)) as store:
        await store.append(batch_of(*(exchange_span(response_body=os.urandom(200).hex()) for _ in range(500))))
    async with open_store(str(path)) as store:
        wreck(path)
        with monkeypatch.context() as patch:

            def full(_path):
                raise sqlite3.OperationalError("database or disk is full")

            patch.setattr(database, "open_writer", full)
            with pytest.raises(StoreError, match=r"cannot be replaced: .* disk is full"):
                await store.exchanges(EVERYTHING, before="", limit=500)
            with pytest.raises(StoreError, match=r"cannot be replaced: .* disk is full"):
                await store.append(batch_of(exchange_span()))
        assert (await store.append(batch_of(exchange_span()))).stored == 1
        assert (await store.stats()).databases_set_aside == 1


def wreck(path):
    """Overwrite every page but the first, as a failing disk might."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


async def test_a_full_disk_is_an_error_that_passes(tmp_path):
    async with open_store(str(tmp_path / "db")) as store:
        await store.append(batch_of(exchange_span(path="/before")))
        (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
        store._writer.execute(f"PRAGMA max_page_count = {pages + 1}")
        big = batch_of(*(exchange_span(response_body=os.urandom(2000).hex()) for _ in range(50)))
        with pytest.raises(StoreError, match="full"):
            await store.append(big)
        store._writer.execute("PRAGMA max_page_count = 1000000")
        assert (await store.append(big)).stored == 50


async def test_one_failed_group_fails_all_of_it_and_nobody_else(tmp_path, monkeypatch):
    async with open_store(str(tmp_path / "db")) as store:
        store._writer.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON exchanges WHEN new.path = '/bad'"
            " BEGIN SELECT raise(ABORT, 'refused'); END"
        )
        with pytest.raises(StoreError, match="refused"):
            await store.append(batch_of(exchange_span(path="/bad")))
        assert (await store.append(batch_of(exchange_span()))).stored == 1


async def test_a_file_locked_by_another_program(tmp_path, monkeypatch):
    path = tmp_path / "db"
    async with open_store(str(path)) as store:
        store._writer.execute("PRAGMA busy_timeout = 10")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.append(batch_of(exchange_span()))
        other.execute("ROLLBACK")
        other.close()
        assert (await store.append(batch_of(exchange_span()))).stored == 1
        assert (await store.stats()).databases_set_aside == 0


async def test_groups_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_SPANS", 3)
    async with open_store(str(tmp_path / "db")) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(partial(store.append, batch_of(exchange_span(), exchange_span())))
        assert (await store.stats()).spans == 40
