"""A spool on a disk that is full or read-only, really: memory has to do, with one warning and the metric, and nothing is lost."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from structlog.testing import capture_logs

from sp_proxy.admin.destination_metrics import destination_metrics
from sp_proxy.exporter.stats import DestinationStats, ExporterStats
from tests.exporter.rig import open_rig
from tests.misbehaving_backend import answer, open_backend
from tests.requirements import require_root_tools

RECORDS = 40
PER_BATCH = 4
SECTIONS = {
    "batch": {"max_records": PER_BATCH, "flush_timeout": "1h"},
    "retry": {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "1h"},
}

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small file system of its own, with these options."""
    require_root_tools("mount", "umount")
    mounted: list[Path] = []

    def make(options: str) -> Path:
        directory = tmp_path / f"disk{len(mounted)}"
        directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
        mounted.append(directory)
        return directory

    yield make
    for directory in mounted:
        subprocess.run(["umount", str(directory)], check=True)


def degraded(stats: DestinationStats) -> float:
    (family,) = [each for each in destination_metrics([stats]) if each.name == "sp_proxy_spool_degraded"]
    assert isinstance(family, Metric)
    return float(family.samples[0].value)


async def outage(directory: Path) -> tuple[ExporterStats, ExporterStats]:
    """The books while a backend refuses, when the disk has had its chance, and after that."""

    def told(stats: ExporterStats) -> bool:
        spool = stats.destinations[0].spool
        refused = stats.uploads.get("retryable:http_503", 0) > 2
        return stats.captured == RECORDS and refused and bool(spool.problem or spool.entries == RECORDS // PER_BATCH)

    async with (
        open_backend() as backend,
        open_rig(backend.url, spool={"mode": "always", "directory": str(directory)}, **SECTIONS) as rig,
    ):
        backend.otherwise = answer(503)
        await rig.send_records(RECORDS)
        during = await rig.until(told)
        backend.otherwise = answer()
        after = await rig.until(lambda stats: not stats.waiting and not stats.spooled)
    return during, after


@pytest.mark.parametrize(
    "options,says", [("size=64k", "No space left on device"), ("size=64k,ro", "Read-only file system")]
)
async def test_memory_has_to_do(mount, options, says):
    disk = mount(options)
    if "ro" not in options:
        with pytest.raises(OSError, match=says), (disk / "full").open("wb") as file:
            file.write(bytes(1 << 20))
    with capture_logs() as logs:
        during, after = await outage(disk / "spool")
    (exporter,) = during.destinations
    assert (exporter.spool.state, degraded(exporter)) == ("degraded", 1)
    assert says in exporter.spool.problem
    assert (during.spooled, during.dropped) == (0, {})
    assert (after.accepted, after.dropped) == (RECORDS, {})
    (warning,) = [line for line in logs if line["event"] == "spool_degraded"]
    assert says in warning["reason"]


async def test_with_room_all_of_it_is_stored(mount):
    """Guards the other test against a disk that is never right."""
    during, after = await outage(mount("size=4m") / "spool")
    (exporter,) = during.destinations
    assert (exporter.spool.state, degraded(exporter)) == ("ready", 0)
    assert (after.accepted, after.dropped) == (RECORDS, {})
