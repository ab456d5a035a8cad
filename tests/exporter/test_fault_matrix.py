"""Every fault of the matrix: one that passes, one that lasts, with and without a spool; and answers that are more than a fault."""

import tracemalloc
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.exporter.upload import MAX_ANSWER_BYTES
from tests.exporter.fault_matrix import (
    FAULTS,
    GIB,
    PER_BATCH,
    RECORDS,
    SHORT_RETRY,
    check_books,
    ids,
    rig_to,
    take_in,
)
from tests.exporter.rig import open_rig
from tests.misbehaving_backend import answer, huge_answer, open_backend


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_passes(name):
    """It holds until all records are in and three attempts have met it; then the backend is well."""
    fault = FAULTS[name]
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, upload=fault.upload | {"concurrency": 2}) as rig:
            await take_in(rig)
            await backend.wait_received(3)
            backend.otherwise = answer()
            # those that met the fault are still told of it
            stats = await rig.settled(RECORDS)
    faulty = len(backend.received) - stats.uploads.get("accepted", 0)
    if fault.kind == "taken":
        faulty = stats.unreadable_answers or stats.uploads.get("partial_success", 0)
    assert faulty >= 3 or name == "200 byte by byte"
    check_books(stats, fault, faulty)
    delivered = ids(backend)
    assert set(delivered) == set(range(1, RECORDS + 1))
    # what was sent more than once was retried, and nothing else
    assert delivered.total() - RECORDS == (faulty * PER_BATCH if fault.kind == "retried" else 0)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_lasts_without_a_spool(name):
    fault = FAULTS[name]
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, retry=SHORT_RETRY, upload=fault.upload) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    if fault.kind == "retried":
        assert (stats.accepted, stats.rejected, stats.dropped) == (0, 0, {"retries_exhausted": RECORDS})
        assert set(stats.uploads) == {fault.uploads}
        assert stats.last_error
    else:
        check_books(stats, fault, RECORDS // PER_BATCH)
        assert ids(backend) == Counter(range(1, RECORDS + 1))


@pytest.mark.parametrize("mode", ["overflow", "always"])
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.kind == "retried"])
async def test_a_fault_that_lasts_is_outlived_by_the_spool(name, mode, tmp_path):
    """Nothing of it gets through in one life of the exporter, and all of it in the next one."""
    fault = FAULTS[name]
    spool = {"mode": mode, "directory": str(tmp_path)}
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, spool=spool) as rig:
            await take_in(rig)
            await rig.until(lambda stats: sum(stats.uploads.values()) >= 2)
            stats = await rig.finish(0.2)
        assert (stats.accepted, stats.dropped, stats.spooled) == (0, {}, RECORDS)
        attempts = len(backend.received)
        backend.otherwise = answer()
        async with rig_to(backend, spool=spool) as rig:
            stats = await rig.until(lambda stats: stats.accepted == RECORDS)
    assert (stats.recovered, stats.captured, stats.dropped, stats.spooled) == (RECORDS, 0, {}, 0)
    delivered = Counter(
        int.from_bytes(span.span_id)
        for received in backend.received[attempts:]
        for resource in received.otlp().resource_spans
        for span in resource.scope_spans[0].spans
    )
    assert delivered == Counter(range(1, RECORDS + 1))
    assert not list(tmp_path.rglob("*.entry"))


async def test_a_retry_that_gives_up_before_its_payload_was_due_on_disk_loses_nothing(tmp_path):
    """``max_elapsed_time`` far below ``spool.overflow_after``: the spool is there all the same."""
    retry = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "50ms"}
    spool = {"directory": str(tmp_path), "overflow_after": "1h"}
    async with open_backend() as backend:
        backend.otherwise = answer(503)
        async with rig_to(backend, retry=retry, spool=spool) as rig:
            await take_in(rig)
            await rig.until(lambda stats: stats.spooled + stats.in_flight == RECORDS and stats.spooled > 0)
            backend.otherwise = answer()
            stats = await rig.until(lambda stats: stats.accepted == RECORDS)
    assert stats.dropped == {}


async def test_413_is_split_until_it_is_taken_and_costs_only_what_cannot_be():
    """A backend that takes no more than two records, and never a certain one."""
    taken: list[int] = []

    async def pick(stream: Any) -> bool:
        spans = backend.requests[-1].resource_spans[0].scope_spans[0].spans
        found = [int.from_bytes(span.span_id) for span in spans]
        if len(found) > 2 or 7 in found:
            return await answer(413)(stream)
        taken.extend(found)
        return await answer()(stream)

    async with open_backend() as backend:
        backend.otherwise = pick
        async with rig_to(backend) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert (stats.accepted, stats.dropped) == (RECORDS - 1, {"too_large": 1})
    assert Counter(taken) == Counter(set(range(1, RECORDS + 1)) - {7})
    # Once for what fits, and the one that nobody takes with another and alone.
    assert stats.uploads["too_large"] >= 1 + 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("approved", [False, True])
async def test_a_redirect_is_not_followed_even_to_an_approved_host(status, approved):
    async with open_backend() as other, open_backend() as backend:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        backend.otherwise = answer(status, location=f"{elsewhere}/v1/traces")
        hosts = {"approved_backends": ["127.0.0.1", "localhost"]} if approved else {}
        with capture_logs() as logs:
            async with rig_to(backend, **hosts) as rig:
                await take_in(rig)
                stats = await rig.settled(RECORDS)
    assert stats.dropped == {"permanent_error": RECORDS}
    assert (other.connections, other.received) == (0, [])
    told = [line for line in logs if line["event"] == "upload_refused"]
    assert "redirects are not followed" in told[0]["detail"]
    assert len(told) == 1


def test_a_backend_that_is_not_approved_stops_the_start():
    with pytest.raises(ValueError, match="approved_backends"):
        open_rig_once("https://collector.example", approved_backends=["other.example"])


def open_rig_once(url: str, **sections: Any) -> None:
    async def enter() -> None:
        async with open_rig(url, **sections):
            pass

    trio.run(enter)


@pytest.mark.parametrize("status", [200, 503])
async def test_of_an_answer_of_1_gib_no_more_than_the_limit_is_held(status):
    async with open_backend(huge_answer(GIB, status)) as backend, rig_to(backend) as rig:
        tracemalloc.start()
        try:
            await rig.send_records(PER_BATCH)
            stats = await rig.settled(PER_BATCH)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert stats.accepted == PER_BATCH
    assert peak < 8 * MAX_ANSWER_BYTES
