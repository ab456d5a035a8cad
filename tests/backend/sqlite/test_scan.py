import itertools

import pytest

from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.sqlite import scan, search
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.backend.sqlite.write import insert_batches
from sp_proxy.backend.store import BadCursorError
from tests.backend.requests import START, batch_of, exchange_span


def fill(connection, count, *, per_batch=10, characters=1 << 20):
    """Exchanges one a millisecond; one in 7 is an error, in 10 a heron, in 31 of another service."""
    for start in range(0, count, per_batch):
        spans = [
            exchange_span(
                at=at,
                path=f"/{at}",
                status=503 if at % 7 == 0 else 200,
                service="other" if at % 31 == 0 else "orders",
                session=f"s{at % 5}",
                response_body="heron" if at % 10 == 0 else "sparrow",
            )
            for at in range(start, min(count, start + per_batch))
        ]
        insert_batches(connection, [pack_batch(batch_of(*spans))], max_characters=characters)


def walk(connection, text, *, limit=7, budget=60.0):
    """All pages, as numbers of exchanges; each page must come on."""
    query = parse(text, now_unix_ns=START)
    found: list[int] = []
    cursor, cursors = "", set[str]()
    ticks = itertools.count()
    while True:
        page = scan.exchanges(connection, query, cursor, limit, budget=budget, clock=lambda: float(next(ticks)))
        assert len(page.exchanges) <= limit
        found += [int(one.path[1:]) for one in page.exchanges]
        cursor = page.next
        if not cursor:
            return found, len(cursors) + 1
        assert cursor not in cursors
        cursors.add(cursor)


QUERIES = {
    "": range(300),
    "status>=500": range(0, 300, 7),
    "status>=500 path:*1": [at for at in range(0, 300, 7) if at % 10 == 1],
    "service:other": range(0, 300, 31),
    "session:s3 status<400": [at for at in range(3, 300, 5) if at % 7],
    "host=nowhere": (),
    "heron": range(0, 300, 10),
    "heron status>=500": range(0, 300, 70),
    "heron or service:other": [at for at in range(300) if at % 10 == 0 or at % 31 == 0],
    "not heron path:*5": range(5, 300, 10),
    f"time>={START + 250_000_000}ns": range(250, 300),
    f"time<{START + 20_000_000}ns heron": (0, 10),
    f"time<{START + 20_000_000}ns": range(20),
    f"time>{START + 999_000_000}ns": (),
    "duration>1h": (),
}


@pytest.mark.parametrize("characters", [1 << 20, 2000])
@pytest.mark.parametrize("rare", [2000, 1])
@pytest.mark.parametrize("budget", [1000.0, 0.0])
def test_every_page_of_every_query(connection, monkeypatch, characters, rare, budget):
    """Whether there is time or not, one segment or many, and whether a word is rare or common."""
    monkeypatch.setattr(scan, "FIRST_WINDOW", 10)
    monkeypatch.setattr(scan, "LAST_WINDOW", 40)
    monkeypatch.setattr(scan, "SEGMENT_WINDOW", 20)
    monkeypatch.setattr(scan, "RARE", rare)
    fill(connection, 300, characters=characters)
    for text, expected in QUERIES.items():
        assert walk(connection, text, budget=budget)[0] == sorted(expected, reverse=True), text


def test_without_time_a_page_is_short_and_goes_on(connection, monkeypatch):
    monkeypatch.setattr(scan, "FIRST_WINDOW", 10)
    fill(connection, 300)
    _, pages = walk(connection, "duration>1h", budget=0.0)
    assert 3 <= pages <= 32
    assert walk(connection, "duration>1h", budget=1000.0)[1] == 1


@pytest.mark.parametrize("window", [1, 7, 4000])
@pytest.mark.parametrize("rare", [2000, 1])
@pytest.mark.parametrize("query", ["heron", "heron or service:other", "not sparrow"])
def test_segments_that_overlap_in_time(connection, monkeypatch, window, rare, query):
    """Arrival and start differ: each segment has something of all times."""
    monkeypatch.setattr(scan, "SEGMENT_WINDOW", window)
    monkeypatch.setattr(scan, "LAST_WINDOW", window)
    monkeypatch.setattr(scan, "RARE", rare)
    for start in range(10):
        spans = [exchange_span(at=at, path=f"/{at}", response_body="heron") for at in range(start, 100, 10)]
        insert_batches(connection, [pack_batch(batch_of(*spans))], max_characters=1)
    assert len(search.segments(connection, 0, 2**62)) == 10
    for budget in (0.0, 1000.0):
        assert walk(connection, query, limit=3, budget=budget)[0] == list(range(99, -1, -1))


def test_all_at_the_same_moment(connection, monkeypatch):
    """However short the time is, no page is the last one over again."""
    monkeypatch.setattr(scan, "SEGMENT_WINDOW", 2)
    monkeypatch.setattr(scan, "LAST_WINDOW", 2)
    spans = [exchange_span(at=0, path=f"/{number}", response_body="heron") for number in range(20)]
    for span in spans:
        insert_batches(connection, [pack_batch(batch_of(span))], max_characters=300)
    for query in ("heron", "heron or service:other", "service:orders"):
        assert sorted(walk(connection, query, limit=3, budget=0.0)[0]) == list(range(20))


def test_the_cursor_is_where_the_page_ended(connection):
    fill(connection, 5)
    page = scan.exchanges(connection, EVERYTHING, "", 2)
    assert [exchange.path for exchange in page.exchanges] == ["/4", "/3"]
    assert page.next == f"{page.exchanges[-1].start_unix_ns}.4"
    rest = scan.exchanges(connection, EVERYTHING, page.next, 3)
    assert [exchange.path for exchange in rest.exchanges] == ["/2", "/1", "/0"]
    assert rest.next == ""


@pytest.mark.parametrize("cursor", ["x", "1", "1.", ".1", "1.2.3", f"{2**63}.1"])
def test_foreign_cursors(cursor):
    with pytest.raises(BadCursorError):
        scan.parse_cursor(cursor)


@pytest.mark.parametrize(
    "text", [text for text in QUERIES if text] + ["session:s1", "host:x path:/a*", "trace:" + "ab" * 16]
)
def test_no_query_sorts_or_scans_a_table(connection, text):
    fill(connection, 50)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    scan.exchanges(connection, parse(text, now_unix_ns=START), "", 5)
    connection.set_trace_callback(None)
    for statement in statements:
        if not statement.startswith("SELECT e."):
            continue
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [line for line in plan if line.startswith("SCAN e") and "USING" not in line], (statement, plan)
        if "NOT INDEXED" not in statement:  # there the rows are few, and sorted
            assert not [line for line in plan if "FOR ORDER BY" in line], (statement, plan)
