"""The queue in memory: bounds, order, leases."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.queue import Lease, MemoryQueue


def payload(name: str, records: int = 1) -> Payload:
    return Payload(name.encode(), records, "", len(name))


async def test_first_in_first_out():
    queue = MemoryQueue(10, 100)
    for name in "abc":
        assert queue.append(payload(name))
    assert [(await queue.lease()).payload.body for _ in range(3)] == [b"a", b"b", b"c"]


async def test_a_payload_counts_until_it_is_acknowledged():
    queue = MemoryQueue(10, 100)
    queue.append(payload("abc", records=4))
    lease = await queue.lease()
    assert (queue.records, queue.leased_records, queue.size) == (4, 4, 3)
    queue.ack(lease)
    assert (queue.records, queue.leased_records, queue.size) == (0, 0, 0)


async def test_refuses_the_newest_when_records_are_full_leased_ones_included():
    queue = MemoryQueue(10, 100)
    assert queue.append(payload("a", records=6))
    lease = await queue.lease()
    assert not queue.append(payload("b", records=5))
    assert queue.append(payload("c", records=4))
    queue.ack(lease)
    assert queue.append(payload("d", records=6))


async def test_refuses_the_newest_when_bytes_are_full():
    queue = MemoryQueue(100, 5)
    assert queue.append(payload("abc"))
    assert not queue.append(payload("def"))
    assert queue.append(payload("gh"))


async def test_lease_waits_for_a_payload(autojump_clock):
    queue = MemoryQueue(10, 100)
    leased: list[tuple[float, Lease]] = []

    async def take() -> None:
        lease = await queue.lease()
        leased.append((trio.current_time(), lease))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
        await trio.sleep(5)
        queue.append(payload("a"))
        await trio.sleep(5)
        queue.append(payload("b"))
    assert [(time, lease.payload.body) for time, lease in leased] == [(5, b"a"), (10, b"b")]


async def test_a_cancelled_lease_takes_nothing(autojump_clock):
    queue = MemoryQueue(10, 100)
    with trio.move_on_after(1):
        await queue.lease()
    queue.append(payload("a"))
    with trio.move_on_after(0):
        await queue.lease()
    assert queue.leased_records == 0
    with trio.fail_after(1):
        assert (await queue.lease()).payload.body == b"a"


async def test_finish_forgets_everything_and_says_how_much():
    queue = MemoryQueue(100, 100)
    queue.append(payload("a", records=3))
    queue.append(payload("b", records=4))
    queue.append(payload("c", records=5))
    queue.park(await queue.lease())
    await queue.lease()
    assert await queue.finish() == 12
    assert (queue.records, queue.leased_records, queue.size, queue.active_records) == (0, 0, 0, 0)


async def test_released_is_next_or_last():
    queue = MemoryQueue(10, 100)
    for name in "abc":
        queue.append(payload(name))
    first = await queue.lease()
    queue.release(first)
    assert await queue.lease() is first
    queue.release(first, later=True)
    assert [(await queue.lease()).payload.body for _ in range(3)] == [b"b", b"c", b"a"]


async def test_parked_counts_but_is_not_leased_again():
    queue = MemoryQueue(10, 100)
    queue.append(payload("a", records=4))
    queue.append(payload("b", records=3))
    queue.park(await queue.lease())
    assert (queue.records, queue.waiting_records, queue.active_records, queue.size) == (7, 7, 3, 2)
    assert (await queue.lease()).payload.body == b"b"
    assert not queue.has_waiting
    assert queue.leased_records == 3


async def test_what_goes_to_other_hands_is_forgotten():
    queue = MemoryQueue(10, 100)
    queue.append(payload("a", records=4))
    (lease,) = queue.held()
    assert queue.is_waiting(lease)
    queue.forget(lease)
    assert (queue.records, queue.size, queue.held()) == (0, 0, [])
    assert not await queue.keep(lease)


@pytest.mark.parametrize("records,size", [(1, 0), (3, 100)])
async def test_bounds_are_inclusive(records, size):
    queue = MemoryQueue(records, size)
    assert queue.append(Payload(bytes(size), records, "", 0))


@given(st.lists(st.one_of(st.tuples(st.integers(1, 9), st.integers(0, 30)), st.none(), st.booleans()), max_size=60))
def test_never_above_its_bounds_and_never_loses_count(steps):
    """A step is an append (records, size), a lease (None) or an ack of the oldest or newest lease (bool)."""

    async def run() -> None:
        queue = MemoryQueue(20, 100)
        waiting: list[Payload] = []
        leases: list[Lease] = []
        for step in steps:
            if isinstance(step, tuple):
                new = Payload(bytes(step[1]), step[0], "", step[1])
                held = waiting + [lease.payload for lease in leases]
                fits = (
                    sum(one.records for one in held) + new.records <= 20
                    and sum(len(one.body) for one in held) + len(new.body) <= 100
                )
                assert queue.append(new) is fits
                waiting += [new] if fits else []
            elif step is None and waiting:
                leases.append(await queue.lease())
                assert leases[-1].payload is waiting.pop(0)
            elif step is not None and leases:
                queue.ack(leases.pop(0 if step else -1))
            held = waiting + [lease.payload for lease in leases]
            assert queue.active_records == queue.records
            assert queue.records == sum(one.records for one in held)
            assert queue.size == sum(len(one.body) for one in held)
            assert queue.leased_records == sum(lease.payload.records for lease in leases)

    trio.run(run)
