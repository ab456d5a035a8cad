"""How many uploads go side by side, and when a failing destination is asked by one probe only."""

from itertools import pairwise

import pytest
import trio

from sp_proxy.core.breaker import THRESHOLD
from sp_proxy.core.retry import RetryPolicy
from sp_proxy.exporter.outcome import Retryable
from tests.exporter.scripted_delivery import DOWN, Destination, Run, failing


async def test_uploads_run_side_by_side_up_to_the_limit(autojump_clock):
    destination = Destination(seconds=1.0)
    run = Run(destination, *"abcdefgh", concurrency=3)
    await run.for_seconds(10)
    assert destination.most_in_flight == 3
    assert [time for time, _ in destination.attempts] == pytest.approx([0, 0, 0, 1, 1, 1, 2, 2])


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
