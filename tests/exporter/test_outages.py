"""What time does: ``Retry-After``, and outages of hours, on a clock that jumps."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import trio
import trio.testing

from sp_proxy.exporter.stats import ExporterStats
from tests.exporter.fault_matrix import PER_BATCH, RECORDS, TIMES, UPLOAD, ids, rig_to, take_in
from tests.exporter.rig import Rig, open_rig
from tests.misbehaving_backend import answer, open_backend


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_holds_all_uploads_back(status):
    async with open_backend(answer(status, retry_after="1")) as backend, rig_to(backend) as rig:
        await rig.send_records(PER_BATCH)
        await backend.wait_received(1)
        await rig.until(lambda stats: bool(stats.uploads))
        await take_in(rig, first=1 + PER_BATCH)
        stats = await rig.settled(RECORDS + PER_BATCH)
    assert (stats.accepted, stats.uploads[f"retryable:http_{status}"]) == (RECORDS + PER_BATCH, 1)
    first, *others = backend.received
    assert min(received.time for received in others) >= first.time + 1.0


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_as_a_date_is_compared_with_the_wall_clock(status):
    now = 1_700_000_000.0
    date = format_datetime(datetime.fromtimestamp(now + 1, UTC), usegmt=True)
    async with (
        open_backend(answer(status, retry_after=date)) as backend,
        open_rig(backend.url, clock=lambda: now, upload=UPLOAD, **TIMES) as rig,
    ):
        await take_in(rig, PER_BATCH)
        await rig.settled(PER_BATCH)
    first, second = backend.received
    assert 1.0 <= second.time - first.time < 3.0


MINUTE = 60.0
PATIENT = {"concurrency": 4, "connect_timeout": "1d", "write_timeout": "1d", "read_timeout": "1d", "timeout": "1d"}
"""An attempt that is under way when time jumps is not late."""


def far_clock(minutes: Callable[[trio.testing.MockClock], Awaitable[None]]) -> None:
    """Time runs as ever, and may jump as well."""
    clock = trio.testing.MockClock(rate=1.0)
    trio.run(minutes, clock, clock=clock)


async def well_again(clock: trio.testing.MockClock, rig: Rig) -> ExporterStats:
    """Until all is delivered; whoever waits for the time of another attempt need not."""
    while (stats := rig.exporter.stats()).waiting or stats.spooled:
        clock.jump(MINUTE / 4)
        await trio.testing.wait_all_tasks_blocked(0.01)
    return stats


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_down_in_the_middle_for_six_hours(mode, tmp_path):
    """Traffic goes on; every four minutes of the outage a batch is added. Nothing is lost, not even the first minutes: memory
    holds a few batches, the rest is on disk. Afterwards all of it is delivered, each record once.
    """

    async def day(clock: trio.testing.MockClock) -> None:
        retry = {"initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": "5m"}
        sections = {
            "retry": retry,
            "spool": {"mode": mode, "directory": str(tmp_path)},
            "queue": {"max_records": 40},
            "upload": PATIENT,
            "batch": {"max_records": PER_BATCH, "flush_timeout": "1h"},
        }
        begun = trio.current_time()
        async with (
            open_backend() as backend,
            open_rig(backend.url, clock=lambda: 1.7e9 + trio.current_time(), seconds=1e6, **sections) as rig,
        ):
            await take_in(rig)
            await rig.until(lambda stats: stats.accepted == RECORDS)
            await backend.go_down()
            sent = RECORDS
            for _ in range(90):
                await take_in(rig, PER_BATCH, first=sent + 1)
                sent += PER_BATCH
                clock.jump(4 * MINUTE)
                stats = await rig.until(lambda stats: stats.waiting <= RECORDS and not stats.waiting_batch)
            assert (stats.accepted, stats.dropped) == (RECORDS, {})
            assert stats.spooled + stats.waiting == sent - RECORDS
            assert stats.spooled >= sent - 2 * RECORDS
            assert stats.destinations[0].breaker != "closed"
            attempts = sum(stats.uploads.values())
            assert attempts < 6 * 60 * 2 + 40  # no storm: a probe in half a minute, and a few to find out
            await backend.come_up()
            await take_in(rig, PER_BATCH, first=sent + 1)
            sent += PER_BATCH
            stats = await well_again(clock, rig)
            assert stats.accepted == sent
            assert stats.dropped == {}
            assert ids(backend) == Counter(range(1, sent + 1))
            assert trio.current_time() - begun > 6 * 3600

    far_clock(day)


def test_an_outage_longer_than_the_spool_keeps_loses_the_oldest_and_says_so(tmp_path):
    async def days(clock: trio.testing.MockClock) -> None:
        sections = {
            "retry": {"initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": "5m"},
            "spool": {"mode": "always", "directory": str(tmp_path), "max_age": "2h"},
            "batch": {"max_records": PER_BATCH, "flush_timeout": "1h"},
        }
        async with (
            open_backend() as backend,
            open_rig(backend.url, clock=lambda: 1.7e9 + trio.current_time(), seconds=1e6, **sections) as rig,
        ):
            await backend.go_down()
            for step in range(60):
                await take_in(rig, PER_BATCH, first=1 + step * PER_BATCH)
                await rig.until(lambda stats: not stats.waiting_batch and not stats.waiting_queue)
                clock.jump(3 * MINUTE)
            await rig.until(lambda stats: stats.dropped.get("evicted", 0) >= 12 * PER_BATCH)
            await backend.come_up()
            stats = await well_again(clock, rig)
            assert set(stats.dropped) == {"evicted"}
            assert stats.accepted + stats.dropped["evicted"] == 60 * PER_BATCH
            delivered = ids(backend)
            assert delivered.total() == len(delivered) == stats.accepted
            # What is in an upload at the moment does not expire, so the oldest of two hours are not exactly so old.
            assert 38 * PER_BATCH <= stats.accepted <= 50 * PER_BATCH
            assert set(delivered) >= set(range(1 + 22 * PER_BATCH, 1 + 60 * PER_BATCH))

    far_clock(days)
