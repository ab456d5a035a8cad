"""Waiting for whichever happens first."""

import trio

from sp_proxy.supervisor.waiting import first_of


async def test_one_that_happens_is_enough(autojump_clock):
    never, soon = trio.Event(), trio.Event()

    async def happen() -> None:
        await trio.sleep(1)
        soon.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(happen)
        assert await first_of(never, soon)
        assert trio.current_time() == 1


async def test_what_happened_before_is_not_waited_for(autojump_clock):
    already = trio.Event()
    already.set()
    assert await first_of(trio.Event(), already, timeout=5)
    assert trio.current_time() == 0


async def test_nothing_in_time(autojump_clock):
    assert not await first_of(trio.Event(), trio.Event(), timeout=5)
    assert trio.current_time() == 5
