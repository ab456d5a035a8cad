"""Delivery that is drained, stopped, cancelled or ended by a fault: nothing is lost."""

import pytest
import trio

from sp_proxy.core.retry import RetryPolicy
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Retryable
from sp_proxy.exporter.queue import Lease, MemoryQueue
from tests.exporter.scripted_delivery import DOWN, Destination, Run


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
