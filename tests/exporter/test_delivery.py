"""Delivery without sockets, on a virtual clock: when attempts happen, and where every record ends."""

from collections import deque
from itertools import pairwise

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from sp_proxy.core.breaker import THRESHOLD
from sp_proxy.core.retry import RetryPolicy
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.encode import Encoder, Form, Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Partial, Permanent, Retryable, TooLarge
from sp_proxy.exporter.queue import Lease, MemoryQueue
from sp_proxy.exporter.stats import Ledger
from tests.exporter.rig import make_exchanges

POLICY = RetryPolicy(
    initial_interval=1.0, max_interval=8.0, multiplier=2.0, randomization_factor=0.0, max_elapsed_time=100.0
)
DOWN = Retryable("http_503")


class Destination:
    """Answers by a script for each payload (by its body), then accepts; an attempt takes ``seconds``, or what is
    said for the payload.
    """

    def __init__(self, seconds: float = 0.0, lasting: dict[str, float] | None = None, **script: list[Outcome]) -> None:
        self.attempts: list[tuple[float, str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._seconds = seconds
        self._lasting = lasting or {}
        self._script = {name: deque(outcomes) for name, outcomes in script.items()}

    def script(self, payload: Payload, *outcomes: Outcome) -> None:
        self._script[payload.body.decode("latin-1")] = deque(outcomes)

    async def send(self, payload: Payload) -> Outcome:
        name = payload.body.decode("latin-1")
        self.attempts.append((trio.current_time(), name))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await trio.sleep(self._lasting.get(name, self._seconds))
        self.in_flight -= 1
        outcomes = self._script.get(name)
        return outcomes.popleft() if outcomes else Accepted()


def failing(names: str, outcomes: list[Retryable]) -> Destination:
    """Answers this to every payload."""
    destination = Destination()
    for name in names:
        destination.script(Payload(name.encode(), 10, "", 1), *outcomes)
    return destination


class Faulty:
    async def send(self, payload: Payload) -> Outcome:
        raise ZeroDivisionError


class Run:
    """A delivery of payloads of ten records each, and its books."""

    def __init__(
        self,
        destination,
        *names: str,
        concurrency: int = 1,
        policy: RetryPolicy = POLICY,
        queue: MemoryQueue | None = None,
    ) -> None:
        self.destination = destination
        self.queue = queue or MemoryQueue(1000, 1 << 20)
        self.ledger = Ledger()
        self.captured = 10 * len(names)
        for name in names:
            assert self.queue.append(Payload(name.encode(), 10, "", len(name)))
        self.delivery = Delivery(
            self.queue,
            destination,
            policy,
            self.ledger,
            concurrency=concurrency,
            clock=lambda: 1_700_000_000.0,
            randomness=lambda: 0.5,
        )

    async def for_seconds(self, seconds: float, captured: int = 0) -> None:
        self.captured = captured or self.captured
        with trio.move_on_after(seconds):
            await self.delivery.run()
        self.check()

    async def until_empty(self, captured: int) -> None:
        """In real time: the virtual clock does not wait for threads."""
        self.captured = captured
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.delivery.run)
                while self.queue.records:  # noqa: ASYNC110 (nothing announces it)
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    def check(self) -> None:
        ledger = self.ledger
        decided = ledger.accepted + ledger.rejected + sum(ledger.dropped.values())
        assert decided + self.queue.records == self.captured


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


async def test_uploads_run_side_by_side_up_to_the_limit(autojump_clock):
    destination = Destination(seconds=1.0)
    run = Run(destination, *"abcdefgh", concurrency=3)
    await run.for_seconds(10)
    assert destination.most_in_flight == 3
    assert [time for time, _ in destination.attempts] == pytest.approx([0, 0, 0, 1, 1, 1, 2, 2])


async def test_a_cancelled_upload_stays_in_the_books(autojump_clock):
    run = Run(Destination(seconds=1000.0), "a", "b")
    await run.for_seconds(10)
    assert (run.queue.waiting_records, run.queue.leased_records) == (20, 0)
    assert (await run.queue.lease()).payload.body == b"a"


class FailingQueue(MemoryQueue):
    """Leases so many, then fails."""

    def __init__(self, leases: int) -> None:
        super().__init__(1000, 1 << 20)
        self.leases = leases

    async def lease(self) -> Lease:
        if not self.leases:
            raise RuntimeError("a fault of ours")
        self.leases -= 1
        return await super().lease()


async def test_a_fault_that_ends_it_loses_nothing_and_it_can_go_on(autojump_clock):
    """The third lease fails while the second payload is on its way."""
    queue = FailingQueue(2)
    run = Run(Destination(lasting={"a": 10.0, "b": 1000.0}), *"abcd", concurrency=2, queue=queue)
    with pytest.RaisesGroup(RuntimeError):
        await run.for_seconds(100)
    run.check()
    assert (queue.records, queue.leased_records, run.ledger.accepted) == (30, 0, 10)
    queue.leases = 100
    await run.for_seconds(2000)
    assert (queue.records, run.ledger.accepted) == (0, 40)


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


async def test_a_destination_that_keeps_failing_is_asked_by_one_probe(autojump_clock):
    destination = failing("abcd", [Retryable("connect_error")] * 1000)
    policy = RetryPolicy(1.0, 8.0, 1.0, 0.0, 0.0)
    run = Run(destination, *"abcd", concurrency=4, policy=policy)
    await run.for_seconds(100)
    times = sorted(time for time, _ in destination.attempts)
    assert times[:12] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 4, 8, 16]  # the fifth failure opened it
    assert all(later - earlier == 8 for earlier, later in pairwise(times[11:]))
    assert run.delivery.breaker.opened == 1


async def test_when_the_probe_works_all_go_on_at_once(autojump_clock):
    destination = failing("abcd", [DOWN, DOWN])
    run = Run(destination, *"abcd", concurrency=4, policy=RetryPolicy(10.0, 30.0, 1.0, 0.0, 0.0))
    await run.for_seconds(100)
    assert run.ledger.accepted == 40
    assert run.delivery.breaker.state == "closed"
    times = sorted(time for time, _ in destination.attempts)
    assert times[:5] == [0, 0, 0, 0, 10]
    assert len(set(times[-4:])) <= 2


async def test_fewer_uploads_side_by_side_at_signs_of_overload(autojump_clock):
    destination = failing("abcd", [Retryable("http_503")] * 3)
    run = Run(destination, *"abcd", concurrency=4)
    with trio.move_on_after(0.5):
        await run.delivery.run()
    assert run.delivery.concurrency == 2


async def test_more_uploads_side_by_side_while_all_goes_well(autojump_clock):
    destination = Destination(seconds=1.0)
    run = Run(destination, *[f"p{number}" for number in range(100)], concurrency=20)
    assert run.delivery.concurrency == 4
    await run.for_seconds(100)
    assert destination.most_in_flight > 8
    assert run.ledger.accepted == 1000


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


async def test_a_drain_tries_at_once_what_waits_for_a_retry(autojump_clock):
    destination = Destination(a=[DOWN])
    run = Run(destination, "a", policy=RetryPolicy(60.0, 60.0, 1.0, 0.0, 300.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.delivery.run)
        await trio.sleep(10)
        run.delivery.drain(deadline=15.0)
        await trio.sleep(1)
        assert destination.attempts == [(0, "a"), (10, "a")]
        assert run.ledger.accepted == 10
        nursery.cancel_scope.cancel()


async def test_a_drain_gives_up_what_would_have_to_wait_too_long_and_tries_the_rest(autojump_clock):
    destination = Destination(a=[DOWN, DOWN])
    run = Run(destination, "a", "b", policy=RetryPolicy(60.0, 60.0, 1.0, 0.0, 300.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.delivery.run)
        await trio.sleep(10)
        run.delivery.drain(deadline=15.0)
        await trio.sleep(1)
        assert (run.queue.records, run.queue.active_records) == (10, 0)
        assert run.ledger.accepted == 10
        nursery.cancel_scope.cancel()
    run.check()


async def test_a_drain_obeys_a_retry_after_beyond_its_deadline(autojump_clock):
    destination = Destination(a=[Retryable("http_503", after=60.0)])
    run = Run(destination, "a", "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.delivery.run)
        await trio.sleep(10)
        run.delivery.drain(deadline=15.0)
        await trio.sleep(20)
        assert destination.attempts == [(0, "a")]
        assert (run.queue.records, run.queue.active_records) == (20, 0)
        assert not run.ledger.dropped
        nursery.cancel_scope.cancel()
    run.check()


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


async def test_stopped_it_gives_back_what_waits_and_ends(autojump_clock):
    destination = Destination(a=[DOWN] * 5)
    run = Run(destination, "a", "b", concurrency=3, policy=RetryPolicy(60.0, 60.0, 1.0, 0.0, 300.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.delivery.run)
        await trio.sleep(10)
        assert (run.queue.leased_records, run.ledger.accepted) == (10, 10)
        run.delivery.stop()
    assert trio.current_time() == 10
    assert (run.queue.waiting_records, run.queue.leased_records) == (10, 0)
    run.check()


async def test_stopped_it_lets_an_attempt_end_and_cancelled_then_gives_it_back(autojump_clock):
    class Slow:
        async def send(self, payload: Payload) -> Outcome:
            await trio.sleep(30 if payload.body == b"a" else 300)
            return Accepted()

    run = Run(Slow(), "a", "b", concurrency=2)
    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.delivery.run)
            await trio.sleep(10)
            run.delivery.stop()
    assert run.ledger.accepted == 10
    assert (run.queue.waiting_records, run.queue.leased_records) == (10, 0)
    run.check()


def open_breaker(run: Run) -> None:
    for _ in range(THRESHOLD):
        run.delivery.breaker.failed(trio.current_time())
    assert run.delivery.breaker.state == "open"


async def test_who_may_not_go_for_a_retry_after_does_not_take_the_place_of_the_probe(autojump_clock):
    """It waits for a slot; when that is free, the breaker would let one probe go, but all are held back for longer."""
    run = Run(destination := Destination(), "a")
    delivery = run.delivery
    async with trio.open_nursery() as nursery:
        await delivery._slots.acquire()
        delivery._slots.total_tokens = 1
        nursery.start_soon(delivery.run)
        await trio.sleep(1)
        open_breaker(run)
        await trio.sleep(10)
        delivery._not_before = trio.current_time() + 20
        began = trio.current_time()
        delivery._slots.release()
        await trio.sleep(100)
        assert [time - began for time, _ in destination.attempts] == [20]
        nursery.cancel_scope.cancel()


async def test_after_a_probe_that_was_cut_off_another_one_goes_at_once(autojump_clock):
    run = Run(destination := Destination(lasting={"a": 30.0}), "a", "b")
    open_breaker(run)
    await run.for_seconds(10)
    assert run.delivery.breaker.state == "half_open"
    await run.for_seconds(100)
    probed, again, after = destination.attempts
    assert [name for _, name in destination.attempts] == ["a", "a", "b"]
    assert (probed[0], again[0], after[0]) == (1.0, 10.0, 40.0)


async def test_an_attempt_with_tasks_of_its_own_that_is_cut_off_is_given_back(autojump_clock):
    """Cancelled, it ends with a group of cancellations."""

    class Nested:
        async def send(self, payload: Payload) -> Outcome:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
            return Accepted()

    run = Run(Nested(), "a", "b", concurrency=2)
    await run.for_seconds(10)
    assert (run.queue.waiting_records, run.queue.leased_records) == (20, 0)
