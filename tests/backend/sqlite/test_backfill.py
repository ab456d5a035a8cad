import sqlite3

import pytest
from msgspec import structs

from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.sqlite import read, scan, traffic
from sp_proxy.backend.sqlite.condition import register
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.backend.sqlite.remove import remove_oldest
from sp_proxy.backend.sqlite.schema import MIGRATIONS, migrate
from tests.backend.requests import START, batch_of, exchange_span, sdk_span

TRACE = b"t" * 16


@pytest.fixture
def connection():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    register(opened)
    migrate(opened, MIGRATIONS[:2])
    yield opened
    opened.close()


def timing(span):
    return span.start_unix_ns, span.duration_ns, span.failed, span.partial


def insert_as_before(connection, *spans):
    """What the second version wrote of a batch, but for sessions."""
    packed = pack_batch(batch_of(*spans, received=7))
    connection.execute("INSERT OR IGNORE INTO resources VALUES (1, ?, ?, 0)", packed.resources[0])
    batch = connection.execute("INSERT INTO batches (tenant, received_unix_ns) VALUES ('', 7)").lastrowid
    last = 0
    for one in packed.spans:
        span, exchange = one.span, one.span.exchange
        last = connection.execute(
            "INSERT INTO spans VALUES (NULL, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
            (*structs.astuple(span)[:3], batch, span.service, span.name, span.kind, *timing(span)),
        ).lastrowid
        connection.execute("INSERT INTO details VALUES (?, ?)", (last, one.details))
        if exchange is not None:
            connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (last, one.request_body, one.response_body))
            connection.execute(
                "INSERT INTO exchanges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (last, span.start_unix_ns, *structs.astuple(exchange)),
            )
    connection.execute("UPDATE batches SET last_span = ? WHERE id = ?", (last, batch))


def paths(connection, text):
    return [one.path for one in scan.exchanges(connection, parse(text, now_unix_ns=START), "", 10).exchanges]


def test_an_older_file_has_all_that_a_new_one_has(connection):
    insert_as_before(
        connection,
        exchange_span(trace=TRACE, span=b"1" * 8, direction="outbound", host="pay", path="/out", at=1),
        exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="pay", path="/in", at=2),
        sdk_span(trace=TRACE, at=3),
    )
    insert_as_before(
        connection, exchange_span(path="/bird", response_body="heron", status=503, more={"sp.tag.env": "x"})
    )
    migrate(connection)
    assert paths(connection, "heron") == ["/bird"]
    assert paths(connection, "tag.env:x") == ["/bird"]
    assert paths(connection, "peer:payment") == ["/out"]
    assert paths(connection, "duration>=12ms status<400") == ["/in", "/out"]
    first, second = read.traces(connection, "", 10).traces
    assert (first.name, first.spans, first.exchanges, first.services) == ("GET /out", 3, 2, ["orders", "payment"])
    assert (second.name, second.errors) == ("GET /bird", 1)
    (edge, other) = traffic.service_map(connection, START, START + 10**9, 10).edges
    assert {(edge.source, edge.target), (other.source, other.target)} == {("orders", "payment"), ("", "orders")}
    assert connection.execute("SELECT first_span, last_span FROM batches").fetchall() == [(1, 3), (4, 4)]
    while remove_oldest(connection):
        pass
    totals = dict(connection.execute("SELECT * FROM totals"))
    assert totals["traces"] == 0


def test_an_empty_one(connection):
    migrate(connection)
    assert paths(connection, "") == []
