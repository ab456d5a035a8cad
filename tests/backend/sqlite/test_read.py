import pytest

from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.sqlite import read
from sp_proxy.backend.sqlite.database import open_writer
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.backend.sqlite.write import insert_batches
from tests.backend.requests import batch_of, exchange_span


@pytest.fixture
def connection():
    opened = open_writer(":memory:")
    yield opened
    opened.close()


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


def test_stats_count_bytes(connection):
    before = read.stats(connection, 3)
    insert_batches(connection, [pack_batch(batch_of(*(exchange_span() for _ in range(200))))])
    after = read.stats(connection, 3)
    assert after.bytes > before.bytes
    assert (after.spans, after.databases_set_aside) == (200, 3)
