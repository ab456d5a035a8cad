import pytest

from sp_proxy.demo.counts import Books, CallBook, Counts, parse_metrics
from sp_proxy.demo.shop.report import Call

SENT = {("customers", "orders"): 10, ("orders", "inventory"): 7, ("orders", "payment"): 3}
GOOD = {"orders": Counts(20, 20, 0), "inventory": Counts(7, 7, 0), "payment": Counts(3, 3, 0)}


def books(*, sent=SENT, unanswered=0, stored=30, **daemons):
    return Books(sent, unanswered, {**GOOD, **daemons}, stored)


def test_halves_are_counted_where_they_pass():
    assert [books().expected(name) for name in GOOD] == [20, 7, 3]
    assert books().expected_total == 30 == sum(map(books().expected, GOOD))
    assert books().requests == 20


def test_books_that_agree():
    assert books().disagreements() == []
    assert books().total == Counts(30, 30, 0)


@pytest.mark.parametrize(
    "wrong, lines",
    [
        ({"unanswered": 2}, ["2 requests had no answer"]),
        ({"stored": 29}, ["30 accepted, but 29 in the backend"]),
        (
            {"payment": Counts(2, 2, 0)},
            ["payment: 2 captured, but 3 exchanges passed its daemon", "29 accepted, but 30 in the backend"],
        ),
        (
            {"payment": Counts(3, 2, 1), "stored": 29},
            ["payment: 3 captured, but 2 accepted", "payment: 1 dropped"],
        ),
        ({"inventory": Counts(8, 8, 0), "stored": 31}, ["inventory: 8 captured, but 7 exchanges passed its daemon"]),
        (
            {"sent": {**SENT, ("orders", "payment"): 4}},
            [
                "orders: 20 captured, but 21 exchanges passed its daemon",
                "payment: 3 captured, but 4 exchanges passed its daemon",
            ],
        ),
    ],
)
def test_every_disagreement_is_told(wrong, lines):
    assert books(**wrong).disagreements() == lines


def test_calls_are_added_up():
    book = CallBook()
    for status in (200, 404, 0):
        book.add(Call("orders", "inventory", "GET", "/", status))
    book.add(Call("customers", "orders", "GET", "/", 200))
    assert book.snapshot() == ({("orders", "inventory"): 3, ("customers", "orders"): 1}, 1)


METRICS = """\
# TYPE sp_proxy_exchanges_captured counter
sp_proxy_exchanges_captured_total 100.0
# TYPE sp_proxy_exchanges_captured_created gauge
sp_proxy_exchanges_captured_created 1.7e9
# TYPE sp_proxy_records_accepted counter
sp_proxy_records_accepted_total 80.0
# TYPE sp_proxy_records_rejected counter
sp_proxy_records_rejected_total 1.0
# TYPE sp_proxy_records_dropped counter
sp_proxy_records_dropped_total{reason="queue_full"} 2.0
sp_proxy_records_dropped_total{reason="shutdown"} 4.0
# TYPE sp_proxy_records_waiting gauge
sp_proxy_records_waiting{stage="batch"} 13.0
# TYPE sp_proxy_channel_records_dropped counter
sp_proxy_channel_records_dropped_total{reason="channel_full"} 8.0
"""


def test_the_metrics_of_a_daemon_are_understood():
    assert parse_metrics(METRICS) == Counts(captured=100, accepted=80, dropped=15)
    assert parse_metrics("") == Counts()
