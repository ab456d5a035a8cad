"""The stage around the batcher, on a virtual clock: ages, back-pressure and its books."""

import pytest
import trio

from sp_proxy.core.batching import BatchLimits
from sp_proxy.exporter.batch import HANDOVER_BATCHES, BatchStage
from tests.exporter.rig import make_exchanges


def stage(max_records: int = 4) -> BatchStage:
    return BatchStage(BatchLimits(max_records, 1 << 20, flush_timeout=5.0))


async def test_a_full_batch_goes_on_at_once(autojump_clock):
    batches = stage()
    await batches.add(make_exchanges(5))
    batch = await batches.next()
    assert batch.exchanges == make_exchanges(4)
    assert batches.records == 5
    batches.settle(batch)
    assert batches.records == 1
    assert trio.current_time() == 0


async def test_each_batch_is_closed_at_its_own_age(autojump_clock):
    batches = stage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run_age_limit)
        await trio.sleep(3)
        await batches.add(make_exchanges(1))
        await trio.sleep(1)
        await batches.add(make_exchanges(1, first=2))
        batch = await batches.next()
        assert (trio.current_time(), len(batch.exchanges), batch.reason) == (8, 2, "age")
        await trio.sleep(10)
        await batches.add(make_exchanges(1))
        await batches.next()
        assert trio.current_time() == 8 + 10 + 5
        nursery.cancel_scope.cancel()


async def test_a_batch_closed_by_count_does_not_take_the_next_ones_age(autojump_clock):
    batches = stage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run_age_limit)
        await batches.add(make_exchanges(1))
        await trio.sleep(4)
        await batches.add(make_exchanges(4))
        await batches.next()
        batch = await batches.next()
        assert (trio.current_time(), len(batch.exchanges)) == (9, 1)
        nursery.cancel_scope.cancel()


async def test_flush_closes_the_open_batch(autojump_clock):
    batches = stage()
    await batches.flush()
    await batches.add(make_exchanges(2))
    await batches.flush()
    assert len((await batches.next()).exchanges) == 2
    with trio.move_on_after(100) as scope:
        await batches.next()
    assert scope.cancelled_caught


async def test_the_intake_waits_for_the_encoder_and_what_it_holds_counts(autojump_clock):
    batches = stage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.add, make_exchanges(4 * (HANDOVER_BATCHES + 1)))
        await trio.sleep(1)
        assert len(nursery.child_tasks) == 1
        assert batches.records == 4 * (HANDOVER_BATCHES + 1)
        batches.settle(await batches.next())
        await trio.sleep(1)
        assert not nursery.child_tasks
    assert batches.records == 4 * HANDOVER_BATCHES


async def test_a_cancelled_intake_stays_in_the_books(autojump_clock):
    batches = stage()
    with trio.move_on_after(1):
        await batches.add(make_exchanges(4 * (HANDOVER_BATCHES + 3)))
    assert batches.records == 4 * (HANDOVER_BATCHES + 3)


async def test_discard_forgets_everything_and_says_how_much():
    batches = stage()
    await batches.add(make_exchanges(6))
    assert batches.discard() == 6
    assert batches.records == 0
    with pytest.raises(trio.ClosedResourceError):
        await batches.next()
