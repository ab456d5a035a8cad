"""Stages that fail are begun again, and nothing else notices."""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.keeping import Keeper

STEADY = RestartPolicy(initial=1.0, multiplier=2.0, maximum=4.0, jitter=0.0, healthy_after=60.0)


class Stage:
    """Fails so often, after so long; then returns."""

    def __init__(self, faults: int, after: float = 0.0) -> None:
        self.faults = faults
        self.after = after
        self.begun: list[float] = []

    async def work(self) -> None:
        self.begun.append(trio.current_time())
        await trio.sleep(self.after)
        if len(self.begun) <= self.faults:
            raise RuntimeError("a fault of ours")


async def test_a_stage_that_returns_is_done(autojump_clock):
    keeper, stage = Keeper(STEADY), Stage(0)
    await keeper.keep("stage", stage.work)
    assert len(stage.begun) == 1
    assert (keeper.faults, keeper.down) == ({}, [])


async def test_it_is_begun_again_at_once_and_then_after_growing_pauses(autojump_clock):
    keeper, stage = Keeper(STEADY), Stage(6)
    began = trio.current_time()
    with capture_logs() as logs:
        await keeper.keep("stage", stage.work)
    assert [time - began for time in stage.begun] == [0, 0, 1, 3, 7, 11, 15]
    assert keeper.faults == {"stage": 6}
    assert keeper.down == []
    assert {line["event"] for line in logs} == {"exporter_stage_failed"}
    assert (logs[0]["stage"], logs[0]["log_level"]) == ("stage", "error")
    assert len(logs) == 1  # once in half a minute


async def test_a_long_life_clears_the_record(autojump_clock):
    keeper, stage = Keeper(STEADY), Stage(4, after=100.0)
    began = trio.current_time()
    await keeper.keep("stage", stage.work)
    assert trio.current_time() - began == 500.0


async def test_a_stage_is_down_while_it_waits(autojump_clock):
    keeper = Keeper(STEADY)
    async with trio.open_nursery() as nursery:
        for name in ("one", "other", "one"):
            nursery.start_soon(keeper.keep, name, Stage(2).work)
        await trio.sleep(0.5)
        assert keeper.down == ["one", "other"]
        assert keeper.faults == {"one": 4, "other": 2}
        nursery.cancel_scope.cancel()
    assert keeper.down == []


async def test_what_fails_in_a_nursery_of_its_own_is_a_fault_too(autojump_clock):
    keeper, stage = Keeper(STEADY), Stage(1)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.work)

    await keeper.keep("stage", work)
    assert keeper.faults == {"stage": 1}


async def test_a_cancellation_is_none(autojump_clock):
    keeper = Keeper(STEADY)
    with trio.move_on_after(1) as scope:
        await keeper.keep("stage", trio.sleep_forever)
    assert scope.cancelled_caught
    assert not keeper.faults


async def test_a_fault_in_the_course_of_a_cancellation_does_not_stop_it(autojump_clock):
    keeper = Keeper(STEADY)

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("a fault of ours")

    with trio.move_on_after(1) as scope:
        await keeper.keep("stage", work)
    assert scope.cancelled_caught
    assert keeper.faults == {"stage": 1}


async def test_what_is_no_fault_goes_on_up(autojump_clock):
    async def work() -> None:
        raise KeyboardInterrupt

    keeper = Keeper(STEADY)
    with pytest.raises(KeyboardInterrupt):
        await keeper.keep("stage", work)
    assert not keeper.faults
