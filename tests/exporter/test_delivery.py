"""Delivery without sockets, on a virtual clock: when attempts happen, and where every record ends."""

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from sp_proxy.core.retry import RetryPolicy
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form, Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Partial, Permanent, Retryable, TooLarge
from sp_proxy.exporter.queue import Lease, MemoryQueue
from tests.exporter.rig import make_exchanges
from tests.exporter.scripted_delivery import DOWN, Destination, Run


class Faulty:
    async def send(self, payload: Payload) -> Outcome:
        raise ZeroDivisionError


async def test_retries_wait_longer_each_time(autojump_clock):
    destination = Destination(a=[DOWN, DOWN, DOWN, DOWN, DOWN])
    run = Run(destination, "a")
    await run.for_seconds(60)
    assert [time for time, _ in destination.attempts] == pytest.approx([0, 1, 3, 7, 15, 23])
    assert run.ledger.accepted == 10
    assert run.ledger.uploads == {"retryable:http_503": 5, "accepted": 1}


async def test_a_retry_after_in_the_answer_holds_all_uploads_back(autojump_clock):
    destination = Destination(lasting={"a": 0.1, "b": 0.2}, a=[Retryable("http_429", after=20.0)])
    run = Run(destination, "a", "b", "c", "d", concurrency=2)
    await run.for_seconds(60)
    # b was on its way already; c and d are not sent before the time asked for.
    assert sorted(destination.attempts)[:2] == [(0, "a"), (0, "b")]
    assert all(time >= 20.1 for time, _ in sorted(destination.attempts)[2:])
    assert run.ledger.accepted == 40


async def test_a_payload_is_given_up_after_max_elapsed_time(autojump_clock):
    destination = Destination(a=[DOWN] * 100)
    run = Run(destination, "a", "b")
    await run.for_seconds(200)
    assert run.ledger.dropped == {"retries_exhausted": 10}
    assert run.ledger.accepted == 10
    last_attempt_of_a = max(time for time, name in destination.attempts if name == "a")
    assert 92 <= last_attempt_of_a <= 100


async def test_zero_max_elapsed_time_never_gives_up(autojump_clock):
    destination = Destination(a=[DOWN] * 1000)
    policy = RetryPolicy(1.0, 8.0, 2.0, 0.0, max_elapsed_time=0.0)
    run = Run(destination, "a", policy=policy)
    await run.for_seconds(9000)
    assert run.ledger.accepted == 10
    assert len(destination.attempts) == 1001


async def test_the_time_counts_from_the_first_attempt_not_from_the_queue(autojump_clock):
    destination = Destination(a=[DOWN] * 20, b=[DOWN] * 5)
    run = Run(destination, "a", "b", policy=RetryPolicy(1.0, 8.0, 2.0, 0.0, max_elapsed_time=50.0))
    await run.for_seconds(200)
    assert run.ledger.dropped == {"retries_exhausted": 10}
    assert run.ledger.accepted == 10  # b, which waited in the queue for nearly 50 s


async def test_permanent_is_dropped_at_once(autojump_clock):
    destination = Destination(a=[Permanent("http_400", "the backend answered 400")])
    run = Run(destination, "a", "b")
    await run.for_seconds(10)
    assert destination.attempts == [(0, "a"), (0, "b")]
    assert run.ledger.dropped == {"permanent_error": 10}
    assert run.ledger.accepted == 10
    assert run.ledger.last_error == "the backend answered 400"


async def test_partial_success_counts_the_rejected_and_does_not_retry(autojump_clock):
    destination = Destination(a=[Accepted(Partial(3, "too old"))])
    run = Run(destination, "a")
    await run.for_seconds(10)
    assert (run.ledger.accepted, run.ledger.rejected) == (7, 3)
    assert len(destination.attempts) == 1


async def test_a_fault_of_our_own_costs_the_payload_only(autojump_clock):
    with capture_logs() as logs:
        run = Run(Faulty(), "a", "b")
        await run.for_seconds(1)
    assert run.ledger.dropped == {"internal_error": 20}
    assert [line["event"] for line in logs] == ["upload_failed"]


def real(records: int, **values) -> Payload:
    encoder = Encoder(SpanEncoder(decode_body).encode_span, [Form({}, "none")])
    (payload,) = encoder.encode(make_exchanges(records, **values)).payloads
    return payload


class Scale:
    """Takes requests of so many bytes at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sizes: list[int] = []

    async def send(self, payload: Payload) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.sizes.append(payload.raw_size)
        return Accepted() if payload.raw_size <= self.limit else TooLarge("the backend answered 413")


@pytest.mark.parametrize("seconds,too_large", [(600.0, 2), (0.0, 6)])
async def test_what_was_too_large_is_learned_for_some_time(monkeypatch, seconds, too_large):
    monkeypatch.setattr("sp_proxy.exporter.delivery.SIZE_MEMORY_SECONDS", seconds)
    run = Run(Scale(real(3).raw_size))
    for _ in range(2):
        run.queue.append(real(8))
        await run.until_empty(captured=16)
    assert run.ledger.uploads["too_large"] == too_large
    assert run.ledger.accepted == 16


async def test_single_records_that_are_too_large_are_lost_and_told():
    with capture_logs() as logs:
        run = Run(Scale(10))
        run.queue.append(real(3))
        await run.until_empty(captured=3)
    assert run.ledger.dropped == {"too_large": 3}
    assert [line["event"] for line in logs] == ["record_too_large"]


async def test_a_refusal_is_told_with_a_sample(autojump_clock):
    with capture_logs() as logs:
        run = Run(Destination())
        payload = real(3)
        run.destination.script(payload, Permanent("http_400", "the backend answered 400"))
        run.queue.append(payload)
        await run.for_seconds(1, captured=3)
    (line,) = logs
    assert (line["event"], line["reason"], line["records_dropped"]) == ("upload_refused", "http_400", 3)
    assert line["sample_trace_id"] == (1).to_bytes(16).hex()


class Kept(MemoryQueue):
    """As a queue on disk: what is given back is safe."""

    async def keep(self, lease: Lease) -> bool:
        await trio.lowlevel.checkpoint()
        return True


async def test_what_is_safe_on_disk_is_not_given_up(autojump_clock):
    destination = Destination(a=[DOWN] * 30)
    run = Run(destination, "a", "b", policy=RetryPolicy(1.0, 8.0, 2.0, 0.0, 20.0), queue=Kept(1000, 1 << 20))
    await run.for_seconds(2000)
    assert (run.ledger.accepted, run.ledger.dropped) == (20, {})
    # b did not have to wait for a
    assert destination.attempts.index(next(each for each in destination.attempts if each[1] == "b")) < 10


async def test_warnings_are_one_line_in_thirty_seconds(autojump_clock):
    with capture_logs() as logs:
        structlog.get_logger()
        run = Run(Destination(a=[DOWN] * 1000), "a", policy=RetryPolicy(1.0, 1.0, 1.0, 0.0, 0.0))
        await run.for_seconds(61.5)
    assert [(line["event"], line["times"]) for line in logs] == [
        ("upload_retried", 1),
        ("upload_retried", 30),
        ("upload_retried", 30),
    ]
