"""The mitm worker's life: first need, death, replacement, other settings, drain."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.supervisor import engine as engine_module
from sp_proxy.supervisor import engine_process as process_module
from sp_proxy.supervisor.engine import EngineError
from sp_proxy.supervisor.engine_process import FIRST_WORKER_ID, EnginePlan
from tests.supervisor.running_engine import CONFIG, FAKE, QUICK, Running, read, running


async def test_on_demand_it_starts_with_the_first_connection():
    async with running() as daemon:
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert daemon.engine.pids == []
        assert daemon.engine.state == "waiting"
        stream, pid = await daemon.served(b"hello")
        assert daemon.engine.pids == [pid]
        await daemon.until(lambda: daemon.engine.state == "ready")
        assert daemon.channels == [FIRST_WORKER_ID]
        await stream.send_all(b"echo")
        assert await read(stream, 4) == b"echo"
        await stream.aclose()


async def test_eagerly_it_starts_at_once():
    async with running(eager=True) as daemon:
        await daemon.until(lambda: daemon.engine.state == "ready")
        assert len(daemon.engine.pids) == 1


async def test_its_death_harms_only_its_own_connections():
    with capture_logs() as logs:
        async with running() as daemon:
            stream, first = await daemon.served()
            os.kill(first, 9)
            assert await read(stream, 1) == b""
            await stream.aclose()
            await daemon.until(lambda: daemon.engine.restart_total == 1)
            await daemon.until(lambda: daemon.engine.state == "ready")
            stream, second = await daemon.served()
            await stream.aclose()
            assert second != first
    died = next(line for line in logs if line["event"] == "mitm_worker_died")
    assert died["ended"] == "killed by SIGKILL"


@pytest.mark.parametrize("limit", ["memory", "age"])
async def test_a_worn_out_one_is_replaced_and_finishes_what_it_has(monkeypatch: pytest.MonkeyPatch, limit: str):
    monkeypatch.setattr(engine_module, "LOOK_INTERVAL", 0.05)
    monkeypatch.setenv("FAKE_MITM", "grows")
    options = {"max_memory": 16 << 20} if limit == "memory" else {"max_age": 0.2}
    async with running(**options) as daemon:
        stream, first = await daemon.served()
        monkeypatch.setattr(engine_module, "LOOK_INTERVAL", 600.0)
        await daemon.until(lambda: daemon.engine.replacement_total >= 1)
        await daemon.until(lambda: len(daemon.engine.pids) == 2)
        later, second = await daemon.served()
        assert second != first
        await stream.send_all(b"still here")
        assert await read(stream, 10) == b"still here"
        await stream.aclose()
        await daemon.until(lambda: first not in daemon.engine.pids)
        await later.aclose()
        assert daemon.engine.restart_total == 0
        assert set(daemon.channels) == {FIRST_WORKER_ID, FIRST_WORKER_ID + 1}


async def test_a_drain_lets_connections_finish_and_starts_nothing_again():
    async with running() as daemon:
        stream, _ = await daemon.served()
        daemon.engine.drain()
        await daemon.until(lambda: daemon.engine.state == "down")
        other, refusal = daemon.hand_over()
        await other.aclose()
        assert refusal == "engine_down"
        await stream.send_all(b"bye")
        assert await read(stream, 3) == b"bye"
        await stream.aclose()
        await daemon.until(lambda: daemon.engine.pids == [])
        assert daemon.engine.restart_total == 0


async def test_a_drain_before_the_first_need():
    async with running() as daemon:
        daemon.engine.drain()
        await daemon.until(lambda: daemon.engine.state == "down")
        assert daemon.channels == []


@dataclass
class Reloading:
    """Other plans for an engine that runs; their workers' channels are counted by themselves."""

    daemon: Running
    attached: list[int]

    async def __call__(self, **plan: Any) -> None:
        def attach(sock: socket.socket, worker_id: int) -> WorkerChannel:
            self.attached.append(worker_id)
            return self.daemon.attach(sock, worker_id)

        await self.daemon.engine.reload(
            EnginePlan(**{"config": CONFIG, "command": FAKE, "policy": QUICK, **plan}), attach
        )


async def test_with_another_plan_the_worker_is_replaced_and_finishes_what_it_has():
    async with running() as daemon:
        stream, first = await daemon.served()
        reload = Reloading(daemon, [])
        await reload(max_age=3600.0)
        assert reload.attached == [FIRST_WORKER_ID + 1]
        await stream.send_all(b"still here")
        assert await read(stream, 10) == b"still here"
        await stream.aclose()
        await daemon.until(lambda: first not in daemon.engine.pids)
        later, second = await daemon.served()
        await later.aclose()
        assert daemon.engine.pids == [second]
        assert daemon.engine.replacement_total == 1


async def test_one_that_does_not_come_up_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    async with running() as daemon:
        stream, first = await daemon.served()
        await stream.aclose()
        reload = Reloading(daemon, [])
        with monkeypatch.context() as patch:
            patch.setattr(process_module, "START_PATIENCE", 0.3)
            for command in (("sleep", "60"), ("/nonexistent",)):
                with pytest.raises(EngineError, match="did not become ready with these settings"):
                    await reload(command=command)
        stream, second = await daemon.served()
        await stream.aclose()
        assert second == first
        os.kill(first, 9)
        await daemon.until(lambda: daemon.engine.restart_total == 1 and daemon.engine.state == "ready")
        stream, third = await daemon.served()  # by the plan of before
        await stream.aclose()
        assert third != first


async def test_one_that_is_not_needed_any_more_retires_until_somebody_comes():
    async with running(eager=True) as daemon:
        stream, first = await daemon.served()
        reload = Reloading(daemon, [])
        await reload(needed=False)
        await daemon.until(lambda: daemon.engine.state == "waiting")
        assert not daemon.engine.needed
        await stream.send_all(b"still here")
        assert await read(stream, 10) == b"still here"
        await stream.aclose()
        await daemon.until(lambda: daemon.engine.pids == [])
        # A relay worker of before hands something over.
        stream, second = await daemon.served()
        assert second != first
        await stream.aclose()
        await reload(eager=True)
        await daemon.until(lambda: daemon.engine.state == "ready" and len(daemon.engine.pids) == 1)
        assert daemon.engine.restart_total == 0


async def test_before_the_first_need_there_is_nothing_to_replace():
    async with running(needed=False) as daemon:
        reload = Reloading(daemon, [])
        await reload(max_age=3600.0)
        assert daemon.engine.pids == []
        await reload(eager=True)
        await daemon.until(lambda: daemon.engine.state == "ready")
        assert reload.attached == [FIRST_WORKER_ID]


async def test_while_it_keeps_dying_other_settings_are_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    until = tmp_path / "until"
    until.touch()
    monkeypatch.setenv("FAKE_MITM", "dies")
    monkeypatch.setenv("FAKE_MITM_UNTIL", str(until))
    async with running(eager=True, policy=RestartPolicy(initial=3600.0, maximum=3600.0)) as daemon:
        await daemon.until(lambda: daemon.engine.restart_total == 2)
        until.unlink()
        await Reloading(daemon, [])(eager=True)
        await daemon.until(lambda: daemon.engine.state == "ready")
