"""The books."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from sp_proxy.exporter.outcome import Accepted, Partial, Permanent, Retryable, TooLarge
from sp_proxy.exporter.stats import (
    MAX_REJECTION_REASONS,
    DestinationStats,
    DropReason,
    ExporterStats,
    IntakeLedger,
    Ledger,
)

BACKEND = DestinationStats(
    name="backend",
    recovered=20,
    accepted=40,
    rejected=5,
    dropped={"queue_full": 4, "evicted": 3},
    waiting_queue=20,
    spooled=15,
    in_flight=15,
    queue_bytes=10,
    uploads={"accepted": 2},
    bytes_sent=1000,
    last_success_unix=5.0,
)
COLLECTOR = DestinationStats(
    name="collector",
    accepted=82,
    queue_bytes=5,
    uploads={"accepted": 3, "too_large": 1},
    last_error="down",
    bytes_sent=1,
)
STATS = ExporterStats(
    captured=100,
    shed={"sampled_out": 5, "queue_full": 3},
    waiting_batch=10,
    held_bytes=0,
    channel_dropped={"channel_full": 1000},
    channel_errors=0,
    destinations=(BACKEND, COLLECTOR),
    workers=(),
)


def with_backend(**values: object) -> ExporterStats:
    return msgspec.structs.replace(STATS, destinations=(msgspec.structs.replace(BACKEND, **values), COLLECTOR))


def test_the_equation_holds_for_each_destination():
    assert [STATS.missing(each) for each in STATS.destinations] == [0, 0]
    assert STATS.balanced


def test_totals_count_every_destination():
    assert (STATS.recovered, STATS.accepted, STATS.rejected, STATS.spooled) == (20, 122, 5, 15)
    assert STATS.dropped == {"sampled_out": 5, "queue_full": 7, "evicted": 3}
    assert (STATS.waiting_queue, STATS.in_flight, STATS.waiting) == (20, 15, 45)
    assert (STATS.queue_bytes, STATS.bytes_sent, STATS.unreadable_answers) == (15, 1001, 0)
    assert STATS.uploads == {"accepted": 5, "too_large": 1}
    assert (STATS.last_error, STATS.last_success_unix) == ("down", 5.0)


@pytest.mark.parametrize(
    "name", ["recovered", "accepted", "rejected", "waiting_queue", "spooled", "in_flight", "elsewhere"]
)
def test_a_record_too_many_anywhere_is_seen(name):
    wrong = with_backend(**{name: getattr(BACKEND, name) + 1})
    assert not wrong.balanced
    assert wrong.missing(wrong.destinations[0]) == (1 if name == "recovered" else -1)


@pytest.mark.parametrize("name", ["captured", "waiting_batch"])
def test_a_record_too_many_before_the_destinations_is_seen(name):
    assert not msgspec.structs.replace(STATS, **{name: getattr(STATS, name) + 1}).balanced


def test_a_drop_too_many_is_seen():
    assert not with_backend(dropped={"queue_full": 8}).balanced
    assert not msgspec.structs.replace(STATS, shed={}).balanced


def test_what_is_shed_is_counted_by_reason():
    ledger = IntakeLedger()
    ledger.drop("rate_limit", 3)
    ledger.drop("rate_limit", 4)
    ledger.drop("memory_limit", 0)
    assert ledger.shed == {"rate_limit": 7}


def test_rejections_are_counted_by_the_backends_words_but_not_by_all_of_them():
    ledger = Ledger()
    for number in range(MAX_REJECTION_REASONS + 5):
        ledger.accept(Accepted(Partial(2, f"reason {number}")), 10, 1, 0.0)
    ledger.accept(Accepted(Partial(1, "reason 0")), 10, 1, 0.0)
    ledger.accept(Accepted(Partial(0, "a warning only")), 10, 1, 0.0)
    assert ledger.rejections["reason 0"] == 3
    assert ledger.rejections["other"] == 10
    assert len(ledger.rejections) == MAX_REJECTION_REASONS + 1
    assert sum(ledger.rejections.values()) == ledger.rejected == 2 * (MAX_REJECTION_REASONS + 5) + 1


def test_recovered_records_add_up():
    ledger = Ledger()
    ledger.recover(3)
    ledger.recover(4)
    assert ledger.recovered == 7


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
        TooLarge("the backend answered 413"),
        Permanent("http_400", "the backend answered 400"),
    ):
        ledger.attempt(outcome)
    assert ledger.uploads == {
        "accepted": 2,
        "partial_success": 1,
        "retryable:http_503": 2,
        "too_large": 1,
        "permanent:http_400": 1,
    }
    assert ledger.unreadable_answers == 1
    assert ledger.last_error == "the backend answered 400"


def test_settling_is_announced():
    settled = []
    ledger = Ledger(lambda: settled.append(1))
    ledger.drop("queue_full", 3)
    ledger.accept(Accepted(), 1, 1, 0.0)
    ledger.settle()
    assert len(settled) == 3
    assert ledger.dropped == {"queue_full": 3}


def test_dropping_nothing_makes_no_reason():
    ledger = Ledger()
    ledger.drop("shutdown", 0)
    assert not ledger.dropped


def test_every_reason_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text()
    assert [reason for reason in get_args(DropReason) if f"`{reason}`" not in text] == []
