"""The books."""

import msgspec
import pytest

from sp_proxy.exporter.outcome import Accepted, Partial, Permanent, Retryable
from sp_proxy.exporter.stats import ExporterStats, Ledger

STATS = ExporterStats(
    captured=100,
    accepted=40,
    rejected=5,
    dropped={"queue_full": 7, "shutdown": 3},
    waiting_batch=10,
    waiting_queue=20,
    in_flight=15,
    queue_bytes=0,
    channel_dropped={"channel_full": 1000},
    channel_errors=0,
    uploads={},
    unreadable_answers=0,
    bytes_sent=0,
    last_error="",
    last_success_unix=None,
    workers=(),
)


def test_waiting_is_what_all_stages_hold():
    assert STATS.waiting == 45


def test_balanced():
    assert STATS.balanced


@pytest.mark.parametrize("name", ["captured", "accepted", "rejected", "waiting_batch", "waiting_queue", "in_flight"])
def test_a_record_too_many_anywhere_is_seen(name):
    assert not msgspec.structs.replace(STATS, **{name: getattr(STATS, name) + 1}).balanced


def test_a_drop_too_many_is_seen():
    assert not msgspec.structs.replace(STATS, dropped={"queue_full": 11}).balanced


def test_an_acceptance_is_split_by_partial_success():
    ledger = Ledger()
    ledger.accept(Accepted(), 10, 100, 5.0)
    ledger.accept(Accepted(Partial(4, "x")), 10, 200, 6.0)
    assert (ledger.accepted, ledger.rejected, ledger.bytes_sent, ledger.last_success_unix) == (16, 4, 300, 6.0)


def test_attempts_by_outcome():
    ledger = Ledger()
    for outcome in (
        Accepted(),
        Accepted(unreadable="cut off"),
        Accepted(Partial(1, "x")),
        Retryable("http_503", detail="the backend answered 503"),
        Retryable("http_503", detail="the backend answered 503"),
        Permanent("http_400", "the backend answered 400"),
    ):
        ledger.attempt(outcome)
    assert ledger.uploads == {"accepted": 2, "partial_success": 1, "retryable:http_503": 2, "permanent:http_400": 1}
    assert ledger.unreadable_answers == 1
    assert ledger.last_error == "the backend answered 400"


def test_settling_is_announced():
    settled = []
    ledger = Ledger(lambda: settled.append(1))
    ledger.drop("queue_full", 3)
    ledger.accept(Accepted(), 1, 1, 0.0)
    assert len(settled) == 2
    assert ledger.dropped == {"queue_full": 3}


def test_dropping_nothing_makes_no_reason():
    ledger = Ledger()
    ledger.drop("shutdown", 0)
    assert not ledger.dropped
