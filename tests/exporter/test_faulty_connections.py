"""Backends that cannot be connected to, or that never read."""

import socket
from collections import Counter
from contextlib import ExitStack

import trio
import trio.testing

from sp_proxy.exporter.stats import ExporterStats
from tests.exporter.fault_matrix import PER_BATCH, RECORDS, SHORT_RETRY, TIMES, UPLOAD, ids, rig_to, take_in
from tests.exporter.rig import Rig, open_rig
from tests.misbehaving_backend import Backend, open_backend, refused_url


async def refuse_then_serve(backend: Backend, rig: Rig) -> ExporterStats:
    await take_in(rig)
    await rig.until(lambda stats: stats.uploads.get("retryable:connect_error", 0) >= 3)
    await backend.come_up()
    return await rig.settled(RECORDS)


async def test_down_from_the_start():
    async with open_backend() as backend:
        await backend.go_down()
        async with rig_to(backend) as rig:
            stats = await refuse_then_serve(backend, rig)
    assert (stats.accepted, stats.dropped) == (RECORDS, {})
    assert ids(backend) == Counter(range(1, RECORDS + 1))
    assert set(stats.uploads) == {"accepted", "retryable:connect_error"}


async def test_down_and_up_again_and_again():
    async with open_backend() as backend, rig_to(backend) as rig:
        for first in range(1, 1 + 6 * RECORDS, RECORDS):
            await take_in(rig, first=first)
            await backend.go_down()
            await trio.testing.wait_all_tasks_blocked(0.02)
            await backend.come_up()
        stats = await rig.settled(6 * RECORDS)
    assert (stats.accepted, stats.dropped) == (6 * RECORDS, {})
    delivered = ids(backend)
    assert set(delivered) == set(range(1, 6 * RECORDS + 1))
    duplicates = delivered.total() - 6 * RECORDS
    # a request that was read whole and not answered is sent again: only then is there a duplicate
    attempts = sum(stats.uploads.values())
    assert duplicates <= (attempts - stats.uploads["accepted"]) * PER_BATCH


async def test_a_port_that_accepts_and_never_reads():
    """The kernel takes connections for a listener that nobody serves: the request is never answered."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with listener, open_rig(url, upload=UPLOAD, retry=SHORT_RETRY) as rig:
        await take_in(rig)
        stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) == {"retryable:read_timeout"}


async def test_a_connection_that_is_never_made():
    """The kernel drops what asks for a connection while a listener's queue is full."""
    with socket.socket() as listener, ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        upload = UPLOAD | {"connect_timeout": "100ms"}
        async with open_rig(url, upload=upload, retry=SHORT_RETRY) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) == {"retryable:connect_timeout"}


async def test_a_request_that_is_never_read():
    """It is larger than what the kernel takes on its way."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        upload = {"compression": "none", "write_timeout": "100ms", "read_timeout": "20s", "timeout": "20s"}
        async with open_rig(
            url, upload=upload, retry=SHORT_RETRY, batch={"max_records": 200, "max_size": "1GiB"}
        ) as rig:
            await rig.send_records(200, request_body=bytes(64 << 10), request_body_size=64 << 10)
            stats = await rig.settled(200)
    assert stats.dropped == {"retries_exhausted": 200}
    assert set(stats.uploads) == {"retryable:write_timeout"}


async def test_a_name_that_does_not_exist_is_retried():
    retry = {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "50ms"}
    upload = UPLOAD | {"timeout": "20s", "connect_timeout": "5s"}
    async with open_rig("http://backend.invalid:4318", upload=upload, retry=retry) as rig:
        await take_in(rig)
        stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) <= {"retryable:connect_error", "retryable:connect_timeout", "retryable:timeout"}


async def test_a_backend_that_is_refused_never_sees_a_byte():
    async with open_rig(refused_url(), upload=UPLOAD, **TIMES) as rig:
        await take_in(rig)
        stats = await rig.until(lambda stats: sum(stats.uploads.values()) >= 3)
        assert set(stats.uploads) == {"retryable:connect_error"}
        stats = await rig.finish(0.2)
    assert stats.dropped == {"shutdown": RECORDS}
