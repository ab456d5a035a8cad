import pytest

from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.logs import read_logs
from sp_proxy.backend.sqlite import read
from sp_proxy.backend.sqlite.packing import pack_batch, pack_logs
from sp_proxy.backend.sqlite.write import insert_batches, insert_logs
from tests.backend.requests import batch_of, exchange_span
from tests.backend.test_logs import logs_request, record


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: read.sessions(connection, "", 100),
        lambda connection: read.sessions(connection, "5.s", 100),
        lambda connection: read.traces(connection, "5.00", 100),
        lambda connection: read.session(connection, "s", "", 100),
        lambda connection: read.trace(connection, b"t" * 16, 100),
        lambda connection: read.logs(connection, LogFilter(), "5.5", 100),
        lambda connection: read.logs(connection, LogFilter(trace_id=b"t" * 16), "", 100),
        lambda connection: read.logs(connection, LogFilter(service="orders", severity_min=9), "", 100),
    ],
)
def test_no_list_query_sorts_or_scans(connection, ask):
    insert_batches(connection, [pack_batch(batch_of(exchange_span(session="s", trace=b"t" * 16)))])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    ask(connection)
    connection.set_trace_callback(None)
    for statement in statements:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [line for line in plan if "TEMP B-TREE" in line or (line.startswith("SCAN") and "USING" not in line)]


def test_log_records_are_looked_for_in_limited_time(connection, monkeypatch):
    """When the time is over the page is what was found, and the next one goes on behind it: nothing twice, nothing left out."""
    monkeypatch.setattr(read, "FIRST_WINDOW", 10)
    records = [record(str(n), time_unix_nano=1 + n // 3, severity_number=17 if n % 25 == 0 else 9) for n in range(100)]
    found = read_logs(logs_request(*records), tenant="", now_unix_ns=1).batch
    insert_logs(connection, [pack_logs(found)])
    pages, before = [], ""
    while True:
        page = read.logs(connection, LogFilter(severity_min=17), before, 3, budget=-1)
        pages.append([log.body for log in page.logs])
        before = page.next
        if not before:
            break
    assert [body for page in pages for body in page] == ["75", "50", "25", "0"]
    assert len(pages) > 5
    assert [log.body for log in read.logs(connection, LogFilter(severity_min=17), "", 3).logs] == ["75", "50", "25"]
    assert not read.logs(connection, LogFilter(service="nobody"), "", 3).next


def test_stats_count_bytes(connection):
    before = read.stats(connection, 3)
    insert_batches(connection, [pack_batch(batch_of(*(exchange_span() for _ in range(200))))])
    after = read.stats(connection, 3)
    assert after.bytes > before.bytes
    assert (after.spans, after.databases_set_aside) == (200, 3)
