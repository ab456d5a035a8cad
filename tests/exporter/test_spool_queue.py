"""Memory and disk as one queue: what goes where, in which order, and that no record is ever in two places or in none.

Real files, but no threads: the virtual clock would not wait for them.
"""

import errno
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from sp_proxy.core.spool_index import SpoolLimits
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.queue import Lease, MemoryQueue
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.exporter.spool_queue import RETRY_SECONDS, SpoolPolicy, SpoolQueue


@pytest.fixture
def clock(autojump_clock, monkeypatch):
    async def inline[T](work: Callable[..., T], *args: object, **_options: object) -> T:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("trio.to_thread.run_sync", inline)
    return autojump_clock


def payload(number: int) -> Payload:
    return Payload(b"%4d" % number + bytes(96), number, "", 100)


class Checked(trio.abc.Instrument):
    """A spool queue whose books are looked at after every step of every task."""

    def __init__(self, directory: Path, mode="overflow", above=400, after=5.0, **limits) -> None:
        self.files = SpoolFiles(directory)
        self.lost: Counter[str] = Counter()
        self.recovered = self.entered = self.left = 0
        self.wrong: list[str] = []
        self.memory = MemoryQueue(1000, limits.pop("memory", 1000))
        self.spool = Spool(
            self.files,
            SpoolLimits(limits.pop("disk", 1 << 20), 3600.0),
            clock=lambda: 1000.0 + trio.current_time(),
            on_recovered=self._recovered,
            on_lost=self._lost,
        )
        self.queue = SpoolQueue(self.memory, self.spool, SpoolPolicy(mode, 900, above, after), SparingLog())

    def _recovered(self, records: int) -> None:
        self.recovered += records

    def _lost(self, reason: str, records: int) -> None:
        self.lost[reason] += records

    def add(self, *numbers: int) -> None:
        for number in numbers:
            assert self.queue.append(payload(number))
            self.entered += number

    def ack(self, lease: Lease) -> None:
        self.left += lease.payload.records
        self.queue.ack(lease)

    @property
    def held(self) -> int:
        return self.queue.waiting_records + self.queue.leased_records + self.queue.spooled_records

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.entered + self.recovered != self.left + self.held + sum(self.lost.values()):
            self.wrong.append(f"{vars(self)}")

    async def until(self, spooled: int) -> None:
        with trio.fail_after(600):
            while self.queue.spooled_records != spooled:  # noqa: ASYNC110 (nothing announces it)
                await trio.sleep(0.5)

    @property
    def state(self) -> tuple[int, int, int]:
        return self.queue.waiting_records, self.queue.leased_records, self.queue.spooled_records


@asynccontextmanager
async def running(checked: Checked, *, finish=True):
    trio.lowlevel.add_instrument(checked)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checked.queue.run)
            yield checked
            nursery.cancel_scope.cancel()
        if finish:
            checked.left += await checked.queue.finish()
    finally:
        trio.lowlevel.remove_instrument(checked)
    assert not checked.wrong


async def take_all(checked: Checked, count: int) -> list[int]:
    taken = []
    for _ in range(count):
        lease = await checked.queue.lease()
        taken.append(lease.payload.records)
        checked.ack(lease)
    return taken


async def test_nothing_touches_the_disk_while_memory_is_enough(clock, tmp_path):
    async with running(Checked(tmp_path / "spool")) as checked:
        checked.add(1, 2, 3)
        await trio.sleep(4)
        assert await take_all(checked, 3) == [1, 2, 3]
    assert not (tmp_path / "spool").exists()


async def test_above_the_mark_the_oldest_go_to_disk(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4, 5, 6, 7)
        await checked.until(spooled=1 + 2 + 3)
        assert checked.state == (4 + 5 + 6 + 7, 0, 6)
        assert checked.queue.size == 400
        assert checked.queue.spool_stats().entries == 3


async def test_too_many_records_go_to_disk_too(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(500, 400, 50)
        await checked.until(spooled=500)


async def test_memory_and_disk_are_taken_in_turn(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4, 5, 6, 7)
        await checked.until(spooled=6)
        assert await take_all(checked, 7) == [4, 1, 5, 2, 6, 3, 7]
        assert checked.held == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_what_waits_too_long_goes_to_disk(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1)
        await trio.sleep(3)
        checked.add(2)
        await checked.until(spooled=1)
        assert trio.current_time() == pytest.approx(5, abs=0.5)
        await checked.until(spooled=3)
        assert trio.current_time() == pytest.approx(8, abs=0.5)


async def test_what_comes_later_does_not_wait_longer(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        await trio.sleep(20)
        checked.add(1)
        lease = await checked.queue.lease()
        await trio.sleep(6)
        assert lease.entry is not None
        checked.add(2)
        await trio.sleep(6)
        assert checked.state == (0, 1, 2)


async def test_what_is_leased_for_too_long_gets_a_copy_on_disk_which_goes_with_it(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1)
        lease = await checked.queue.lease()
        assert lease.entry is None
        await trio.sleep(6)
        assert lease.entry is not None
        assert checked.state == (0, 1, 0)
        assert len(list(tmp_path.glob("*.entry"))) == 1
        checked.ack(lease)
        await trio.sleep(1)
        assert not list(tmp_path.glob("*.entry"))


async def test_what_would_be_given_up_goes_to_disk_at_once(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1)
        lease = await checked.queue.lease()
        async with trio.open_nursery() as nursery:  # twice at once is as good as once
            for _ in range(2):
                nursery.start_soon(checked.queue.keep, lease)
        assert await checked.queue.keep(lease)
        assert trio.current_time() < 1
        assert len(list(tmp_path.glob("*.entry"))) == 1
        assert checked.state == (0, 1, 0)


async def test_what_is_kept_on_disk_leaves_memory_when_it_is_given_back(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2)
        first = await checked.queue.lease()
        await trio.sleep(6)
        checked.queue.release(first, later=True)
        assert (checked.state, checked.queue.size) == ((0, 0, 3), 0)
        assert await take_all(checked, 2) == [2, 1]


async def test_given_back_before_it_is_on_disk_it_stays_in_memory(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2)
        checked.queue.release(await checked.queue.lease(), later=True)
        checked.queue.release(await checked.queue.lease())
        assert await take_all(checked, 2) == [2, 1]


async def test_a_lease_from_disk_given_back_is_leased_again(clock, tmp_path):
    async with running(Checked(tmp_path, mode="always")) as checked:
        checked.add(1, 2)
        first = await checked.queue.lease()
        checked.queue.release(first)
        assert await take_all(checked, 2) == [1, 2]


async def test_always_means_on_disk_before_it_is_leased(clock, tmp_path):
    async with running(Checked(tmp_path, mode="always")) as checked:
        checked.add(5)
        lease = await checked.queue.lease()
        assert not lease.in_memory
        assert len(list(tmp_path.glob("*.entry"))) == 1
        assert checked.queue.size == 100
        checked.ack(lease)


async def test_what_an_earlier_life_has_left_is_leased(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3)
        lease = await checked.queue.lease()
        assert lease.payload.records == 1
    assert checked.left == 0
    assert checked.held == 6
    async with running(Checked(tmp_path)) as again:
        assert sorted(await take_all(again, 3)) == [1, 2, 3]
        assert again.recovered == 6


async def test_at_the_end_parked_and_leased_ones_are_kept_too(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4)
        checked.queue.park(await checked.queue.lease())
        await checked.queue.lease()
        assert checked.queue.active_records == 9
        await trio.sleep(6)  # 2 is on disk and leased
        checked.queue.park(await checked.queue.lease())
    assert (checked.left, checked.held) == (0, 10)
    again = SpoolFiles(tmp_path)
    assert sorted(entry.records for entry in again.open().entries) == [1, 2, 3, 4]
    again.close()


async def test_when_disk_is_left_alone_only_memory_is_active(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4, 5, 6, 7)
        await checked.until(spooled=6)
        assert checked.queue.active_records == 28
        checked.queue.leave_disk()
        assert checked.queue.active_records == 22
        assert await take_all(checked, 4) == [4, 5, 6, 7]
        with trio.move_on_after(10) as scope:
            await checked.queue.lease()
        assert scope.cancelled_caught
        assert checked.queue.active_records == 0


def refuse(*_args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("mode", ["overflow", "always"])
async def test_a_full_disk_leaves_all_in_memory_and_is_tried_again(clock, tmp_path, monkeypatch, mode):
    with capture_logs() as logs:
        async with running(Checked(tmp_path, mode)) as checked:
            with monkeypatch.context() as patch:
                patch.setattr(checked.files, "write", refuse)
                checked.add(1, 2, 3, 4, 5, 6)
                await trio.sleep(1)
                assert checked.state == (21, 0, 0)
                stats = checked.queue.spool_stats()
                assert (stats.state, stats.problem) == ("degraded", "No space left on device")
                assert stats.write_errors == 1
                assert await take_all(checked, 1) == [1]  # delivery goes on
            await trio.sleep(RETRY_SECONDS)
            assert checked.queue.spool_stats().state == "ready"
            assert checked.queue.spooled_records > 0
            assert sorted(await take_all(checked, 5)) == [2, 3, 4, 5, 6]
    assert [line["event"] for line in logs] == ["spool_degraded"]
    assert logs[0]["reason"] == "No space left on device"


async def test_at_the_end_a_full_disk_costs_what_memory_holds_and_says_so(clock, tmp_path, monkeypatch):
    async with running(Checked(tmp_path), finish=False) as checked:
        checked.add(1, 2)
        monkeypatch.setattr(checked.files, "write", refuse)
    assert await checked.queue.finish() == 3
    assert checked.held == 0


async def test_a_spool_that_another_process_owns_is_taken_when_it_is_free(clock, tmp_path):
    owner = SpoolFiles(tmp_path)
    owner.open()
    async with running(Checked(tmp_path, mode="always")) as checked:
        checked.add(1)
        assert await take_all(checked, 1) == [1]
        assert "in use by process" in checked.queue.spool_stats().problem
        owner.close()
        await trio.sleep(RETRY_SECONDS + 1)
        checked.add(2)
        assert await take_all(checked, 1) == [2]
        assert checked.queue.spool_stats().state == "ready"
        assert checked.spool.is_open


async def test_a_disk_that_cannot_be_read_for_now_holds_up_nothing(clock, tmp_path, monkeypatch):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4, 5, 6, 7)
        await checked.until(spooled=6)
        with monkeypatch.context() as patch:
            patch.setattr(checked.files, "read", refuse)
            assert await take_all(checked, 4) == [4, 5, 6, 7]
            assert checked.queue.spool_stats().state == "degraded"
        assert await take_all(checked, 3) == [1, 2, 3]
        assert checked.queue.spool_stats().state == "ready"


async def test_damaged_entries_are_passed_over(clock, tmp_path):
    async with running(Checked(tmp_path)) as checked:
        checked.add(1, 2, 3, 4, 5, 6, 7)
        await checked.until(spooled=6)
        for path in tmp_path.glob("*-2.entry"):
            path.write_bytes(b"")
        assert sorted(await take_all(checked, 6)) == [1, 3, 4, 5, 6, 7]
        assert checked.lost == {"damaged": 2}
        assert checked.queue.spool_stats().damaged_files == 1


async def test_a_disk_that_is_full_by_our_own_limit_evicts_the_oldest(clock, tmp_path):
    async with running(Checked(tmp_path, above=100, disk=450)) as checked:
        checked.add(*range(1, 9))
        await checked.until(spooled=5 + 6 + 7)
        assert checked.lost == {"evicted": 1 + 2 + 3 + 4}


async def test_memory_that_is_full_refuses_the_newest(clock, tmp_path):
    async with running(Checked(tmp_path, memory=300, above=300)) as checked:
        checked.add(1, 2, 3)
        assert not checked.queue.append(payload(4))


async def test_all_waiting_takers_are_served(clock, tmp_path):
    async with running(Checked(tmp_path, above=100)) as checked:
        served: list[int] = []

        async def take() -> None:
            lease = await checked.queue.lease()
            served.append(lease.payload.records)
            await trio.sleep(100)
            checked.ack(lease)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(take)
            await trio.sleep(1)
            checked.add(1, 2, 3, 4, 5, 6)
            await trio.sleep(3)
            assert sorted(served) == [1, 2, 3, 4, 5, 6]


async def test_a_cancelled_lease_takes_nothing(clock, tmp_path):
    async with running(Checked(tmp_path, mode="always")) as checked:
        with trio.move_on_after(1):
            await checked.queue.lease()
        checked.add(1)
        await checked.until(spooled=1)
        with trio.move_on_after(0):
            await checked.queue.lease()
        assert await take_all(checked, 1) == [1]
