from sp_proxy.backend.log_model import LogBatch
from sp_proxy.backend.sqlite import remove, write
from sp_proxy.backend.sqlite.database import open_writer
from sp_proxy.backend.sqlite.packing import pack_batch, pack_logs
from tests.backend.requests import batch_of, exchange_span, sdk_span
from tests.backend.stores import log

TABLES = ("batches", "resources", "spans", "details", "bodies", "exchanges", "sessions", "session_services", "traces")
MORE_TABLES = ("tagsets", "tags", "waiting", "calls", "edges", "logs")
ALL = 2**62


def insert(connection, *spans, characters=1 << 20, **more):
    return write.insert_batches(connection, [pack_batch(batch_of(*spans, **more))], max_characters=characters)[0]


def insert_logs(connection, count, received):
    batch = LogBatch("", received, [{"service.name": "logging"}], [log() for _ in range(count)])
    write.insert_logs(connection, [pack_logs(batch)])


def rows(connection):
    return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES + MORE_TABLES}


def segments(connection):
    return [row[0] for row in connection.execute("SELECT id FROM segments ORDER BY id")]


def test_removing_everything_leaves_no_row_behind(connection):
    for number in range(5):
        span = exchange_span(session=f"s{number}", parent=b"p" * 8, more={"sp.tag.n": number})
        insert(connection, span, sdk_span(), service=f"service-{number}", characters=1)
    insert_logs(connection, 2, received=2**62)
    assert rows(connection)["resources"] == 6
    assert min(rows(connection).values()) > 0
    assert segments(connection) == [1, 2, 3, 4, 5]
    assert remove.remove_oldest(connection, 2) == 2
    assert remove.remove_oldest(connection, 4) == 4
    assert remove.remove_oldest(connection) == 4
    assert remove.remove_oldest(connection) == 2
    assert remove.remove_oldest(connection) == 0
    assert set(rows(connection).values()) == {0}
    assert segments(connection) == [5]
    totals = dict(connection.execute("SELECT * FROM totals"))
    expected = {"appended": 10, "duplicates": 0, "expired": 12}
    assert totals == dict.fromkeys(("spans", "exchanges", "sessions", "traces", "logs"), 0) | expected


def test_old_batches_go_in_chunks(connection, monkeypatch):
    monkeypatch.setattr(remove, "CHUNK", 3)
    for received in (1, 2, 3, 100):
        insert(connection, sdk_span(), exchange_span(), received=received)
    insert_logs(connection, 2, received=1)
    counts = []
    while True:
        count, more = remove.remove_old(connection, lambda _tenant: 50)
        counts.append(count)
        if not more:
            break
    assert (counts[-1], sum(counts)) == (0, 8)
    assert len(counts) > 2
    assert rows(connection)["batches"] == 1


def test_the_first_and_last_time_of_a_session_follow(connection):
    for at in (5, 1, 9):
        insert(connection, exchange_span(session="s", at=at, status=503))
    remove.remove_oldest(connection, 2)
    (first, last, count, errors) = connection.execute(
        "SELECT first_seen_unix_ns, last_seen_unix_ns, exchanges, errors FROM sessions"
    ).fetchone()
    assert (first, count, errors) == (last, 1, 1)


def test_row_numbers_are_not_used_again(connection):
    insert(connection, sdk_span(), received=1)
    remove.remove_oldest(connection)
    insert(connection, sdk_span(), received=2)
    assert connection.execute("SELECT id, batch_id FROM spans").fetchall() == [(2, 2)]


def test_a_resource_in_use_stays(connection):
    insert(connection, sdk_span(), service="shared")
    insert(connection, sdk_span(), service="shared")
    remove.remove_oldest(connection, 1)
    assert rows(connection)["resources"] == 1
    assert connection.execute("SELECT count(*) FROM spans JOIN resources r ON r.id = resource_id").fetchone() == (1,)


def test_a_batch_removed_in_part_keeps_its_row(connection):
    insert(connection, sdk_span(), sdk_span(), sdk_span(), received=7)
    remove.remove_oldest(connection, 2)
    assert connection.execute(
        "SELECT received_unix_ns FROM batches JOIN spans ON batch_id = batches.id"
    ).fetchall() == [(7,)]
    assert remove.remove_old(connection, lambda _tenant: 8).removed == 1


def test_freed_pages_are_given_back(tmp_path):
    connection = open_writer(str(tmp_path / "db"))
    for _ in range(20):
        insert(connection, *(exchange_span(response_body="".join(map(str, range(3000)))) for _ in range(20)))
    while remove.remove_oldest(connection):
        pass
    (before,) = connection.execute("PRAGMA page_count").fetchone()
    remove.give_back(connection, 10_000)
    (after,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    assert after < before / 3


def test_excess(connection):
    assert remove.excess(connection, ALL) == 0
    insert(connection, *(sdk_span() for _ in range(50)))
    assert 1 <= remove.excess(connection, remove.used_bytes(connection) - 1) <= 5
    assert remove.excess(connection, 0) == 51
