"""The mitm worker's processes: how they do not start, what they leave, when they are not heard."""

import os

import pytest
from structlog.testing import capture_logs

from sp_proxy.supervisor import engine_process as process_module
from sp_proxy.supervisor.engine_process import resident_memory
from tests.supervisor.fake_worker import GARBLE, guarded
from tests.supervisor.running_engine import read, running


async def test_one_whose_channel_is_garbled_is_replaced_and_finishes_what_it_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_module, "END_PATIENCE", 0.1)
    with capture_logs() as logs:
        async with running() as daemon:
            stream, first = await daemon.served()
            await stream.send_all(GARBLE)
            assert await read(stream, len(GARBLE)) == GARBLE
            await daemon.until(lambda: daemon.engine.replacement_total == 1)
            later, second = await daemon.served()
            assert second != first
            await stream.send_all(b"still here")
            assert await read(stream, 10) == b"still here"
            await stream.aclose()
            await daemon.until(lambda: first not in daemon.engine.pids)
            await later.aclose()
            assert daemon.engine.restart_total == 0
    (told,) = [line for line in logs if line["event"] == "mitm_worker_not_heard"]
    assert "frame of 4294967295 bytes" in told["reason"]
    assert [line["reason"] for line in logs if line["event"] == "mitm_worker_replaced"] == ["channel"]


async def test_what_a_killed_one_left_in_the_loop_guard_is_freed():
    async with running() as daemon:
        stream, pid = await daemon.served()
        (owner,) = daemon.table.owners
        assert daemon.table.guard.is_ours(*guarded(owner))
        os.kill(pid, 9)
        await daemon.until(lambda: daemon.engine.restart_total == 1)
        assert not daemon.table.guard.is_ours(*guarded(owner))
        await stream.aclose()


async def test_one_that_never_gets_ready_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_module, "START_PATIENCE", 0.3)
    with capture_logs() as logs:
        async with running(command=("sleep", "60"), eager=True) as daemon:
            await daemon.until(lambda: daemon.engine.restart_total >= 1)
            assert daemon.engine.state == "down"
    assert any(line["event"] == "mitm_worker_not_ready" for line in logs)


async def test_a_program_that_does_not_exist_is_told():
    with capture_logs() as logs:
        async with running(command=("/nonexistent",), eager=True) as daemon:
            await daemon.until(lambda: daemon.engine.restart_total >= 1)
    reasons = {line["reason"] for line in logs if line["event"] == "mitm_worker_not_started"}
    assert reasons == {"no such file or directory"}


def test_resident_memory():
    assert resident_memory(os.getpid()) > 1 << 20
    assert resident_memory(2**22 + 1) == 0
