from sp_proxy.backend.sqlite.database import open_writer
from sp_proxy.backend.sqlite.tally import MAX_SERVICES, Gone, Tally, add_totals, name_of
from tests.backend.requests import batch_of, exchange_span, sdk_span

TRACE = b"t" * 16


def write(connection, *spans, service="orders"):
    tally = Tally()
    for span in batch_of(*spans, service=service).spans:
        tally.add(span)
    tally.write(connection)


def total(connection, name):
    return connection.execute("SELECT value FROM totals WHERE name = ?", (name,)).fetchone()[0]


def test_what_is_written_at_once_and_in_parts_is_the_same(connection):
    spans = [
        exchange_span(trace=TRACE, session="s", at=5, status=503),
        exchange_span(trace=TRACE, session="s", at=1, service="payment"),
        sdk_span(trace=TRACE, at=9),
    ]
    write(connection, *spans)
    one = [
        connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("sessions", "session_services", "traces")
    ]
    other = open_writer(":memory:")
    for span in reversed(spans):
        write(other, span)
    assert one == [
        other.execute(f"SELECT * FROM {name}").fetchall() for name in ("sessions", "session_services", "traces")
    ]
    assert (total(other, "sessions"), total(other, "traces")) == (
        total(connection, "sessions"),
        total(connection, "traces"),
    )
    other.close()


def test_a_trace_names_so_many_services(connection):
    for number in range(MAX_SERVICES + 5):
        write(connection, sdk_span(trace=TRACE), service=f"s{number:03}")
    (services,) = connection.execute("SELECT json_array_length(services) FROM traces").fetchone()
    assert services == MAX_SERVICES


def test_names():
    exchange, span = batch_of(exchange_span(method="PUT", path="/x"), sdk_span("SELECT")).spans
    assert (name_of(exchange), name_of(span)) == ("PUT /x", "SELECT")


def test_nothing_gone_changes_nothing(connection):
    write(connection, exchange_span())
    Gone(connection, 5, 9).write(connection)
    assert total(connection, "traces") == 1


def test_totals(connection):
    add_totals(connection, spans=3, logs=0)
    add_totals(connection, spans=-1)
    assert (total(connection, "spans"), total(connection, "logs")) == (2, 0)
