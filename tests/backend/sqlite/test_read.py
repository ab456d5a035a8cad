import pytest

from sp_proxy.backend.model import ExchangeFilter
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


FULL = ExchangeFilter("orders", "inbound", "GET", "h", "/x", 200, 299, "s", "ab" * 16)


@pytest.mark.parametrize("wanted", [ExchangeFilter(), FULL, ExchangeFilter(service="x"), ExchangeFilter(session="x")])
@pytest.mark.parametrize("before", ["", "5.5"])
def test_no_list_query_sorts(connection, wanted, before):
    plans: list[str] = []
    connection.set_trace_callback(plans.append)
    read.exchanges(connection, wanted, before, 100)
    connection.set_trace_callback(None)
    (query,) = [statement for statement in plans if statement.startswith("SELECT")]
    plan = " | ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    if not wanted.trace:  # a trace is small: its exchanges are sorted
        assert "TEMP B-TREE" not in plan, plan
    assert "SCAN e" not in plan or "USING INDEX" in plan, plan


def test_the_cursor_is_where_the_page_ended(connection):
    insert_batches(connection, [pack_batch(batch_of(*(exchange_span(at=at, path=f"/{at}") for at in range(5))))])
    page = read.exchanges(connection, ExchangeFilter(), "", 2)
    assert [exchange.path for exchange in page.exchanges] == ["/4", "/3"]
    assert page.next == f"{page.exchanges[-1].start_unix_ns}.4"
    rest = read.exchanges(connection, ExchangeFilter(), page.next, 3)
    assert [exchange.path for exchange in rest.exchanges] == ["/2", "/1", "/0"]
    assert rest.next == ""


def test_stats_count_bytes(connection):
    before = read.stats(connection, 3)
    insert_batches(connection, [pack_batch(batch_of(*(exchange_span() for _ in range(200))))])
    after = read.stats(connection, 3)
    assert after.bytes > before.bytes
    assert (after.spans, after.databases_set_aside) == (200, 3)
