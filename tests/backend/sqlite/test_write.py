import sqlite3

import pytest

from sp_proxy.backend.sqlite import write
from sp_proxy.backend.sqlite.database import open_writer
from sp_proxy.backend.sqlite.packing import pack_batch
from tests.backend.requests import batch_of, exchange_span, sdk_span

EVERYTHING = 2**62
TABLES = ("batches", "resources", "spans", "details", "bodies", "exchanges", "sessions", "session_services")


@pytest.fixture
def connection():
    opened = open_writer(":memory:")
    yield opened
    opened.close()


def insert(connection, *spans, **more):
    return write.insert_batches(connection, [pack_batch(batch_of(*spans, **more))])[0]


def rows(connection):
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def test_a_failed_group_leaves_nothing(connection):
    good = pack_batch(batch_of(exchange_span()))
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON exchanges WHEN new.path = '/bad'"
        " BEGIN SELECT raise(ABORT, 'refused'); END"
    )
    bad = pack_batch(batch_of(exchange_span(path="/bad")))
    with pytest.raises(sqlite3.IntegrityError):
        write.insert_batches(connection, [good, bad])
    assert not connection.in_transaction
    assert set(rows(connection).values()) == {0}
    write.insert_batches(connection, [good])
    assert rows(connection)["spans"] == 1


def test_removing_everything_leaves_no_row_behind(connection):
    for number in range(5):
        insert(connection, exchange_span(session=f"s{number}"), sdk_span(), service=f"service-{number}")
    assert rows(connection)["resources"] == 5
    assert write.remove_oldest(connection, until=EVERYTHING, chunk=3) == 3
    assert write.remove_oldest(connection, until=EVERYTHING) == 7
    assert write.remove_oldest(connection, until=EVERYTHING) == 0
    assert set(rows(connection).values()) == {0}
    totals = dict(connection.execute("SELECT * FROM totals"))
    assert totals == {"spans": 0, "exchanges": 0, "sessions": 0, "appended": 10, "duplicates": 0, "expired": 10}


def test_row_numbers_are_not_used_again(connection):
    insert(connection, sdk_span(), received=1)
    write.remove_oldest(connection, until=EVERYTHING)
    insert(connection, sdk_span(), received=2)
    assert connection.execute("SELECT id, batch_id FROM spans").fetchall() == [(2, 2)]


def test_a_resource_in_use_stays(connection):
    insert(connection, sdk_span(), service="shared")
    insert(connection, sdk_span(), service="shared")
    write.remove_oldest(connection, until=1)
    assert rows(connection)["resources"] == 1
    assert connection.execute("SELECT count(*) FROM spans JOIN resources r ON r.id = resource_id").fetchone() == (1,)


def test_a_batch_removed_in_part_keeps_its_row(connection):
    insert(connection, sdk_span(), sdk_span(), sdk_span(), received=7)
    write.remove_oldest(connection, until=EVERYTHING, chunk=2)
    assert connection.execute(
        "SELECT received_unix_ns FROM batches JOIN spans ON batch_id = batches.id"
    ).fetchall() == [(7,)]
    assert write.expired_until(connection, 8) == 3


def test_freed_pages_are_given_back(tmp_path):
    connection = open_writer(str(tmp_path / "db"))
    for _ in range(20):
        insert(connection, *(exchange_span(response_body="".join(map(str, range(3000)))) for _ in range(20)))
    while write.remove_oldest(connection, until=EVERYTHING):
        pass
    (before,) = connection.execute("PRAGMA page_count").fetchone()
    write.give_back(connection, 10_000)
    (after,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    assert after < before / 3


def test_excess(connection):
    assert write.excess_spans(connection, EVERYTHING) == 0
    insert(connection, *(sdk_span() for _ in range(50)))
    assert 1 <= write.excess_spans(connection, write.used_bytes(connection) - 1) <= 5
    assert write.excess_spans(connection, 0) == 51
