import sqlite3

import pytest

from sp_proxy.backend.sqlite import write
from sp_proxy.backend.sqlite.packing import pack_batch
from tests.backend.requests import batch_of, exchange_span, partial_span

TABLES = ("batches", "resources", "spans", "details", "bodies", "exchanges", "sessions", "session_services")


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


def test_tags_are_stored_once(connection):
    for _ in range(2):
        insert(connection, exchange_span(more={"sp.tag.env": "prod", "sp.tag.team": "a"}), exchange_span())
    insert(connection, exchange_span(more={"sp.tag.env": "test"}))
    assert connection.execute("SELECT tagset FROM exchanges ORDER BY id").fetchall() == [(1,), (0,), (1,), (0,), (2,)]
    assert connection.execute("SELECT * FROM tags ORDER BY tagset, name").fetchall() == [
        ("env", "prod", 1),
        ("team", "a", 1),
        ("env", "test", 2),
    ]


def test_a_group_with_a_partial_exchange_and_its_end_counts_once(connection):
    write.insert_batches(
        connection,
        [
            pack_batch(batch_of(partial_span(span=b"1" * 8, trace=b"t" * 16, response_body="one"))),
            pack_batch(batch_of(exchange_span(span=b"1" * 8, trace=b"t" * 16, response_body="two"))),
        ],
    )
    assert rows(connection)["exchanges"] == 1
    assert connection.execute("SELECT exchanges FROM sessions").fetchall() == [(1,)]
    assert connection.execute("SELECT spans, exchanges FROM traces").fetchall() == [(1, 1)]
    (last,) = connection.execute("SELECT id FROM exchanges").fetchone()
    assert connection.execute("SELECT rowid FROM search_1 WHERE search_1 MATCH 'two'").fetchall() == [(last,)]
    assert connection.execute("SELECT rowid FROM search_1 WHERE search_1 MATCH 'one'").fetchall() == []
