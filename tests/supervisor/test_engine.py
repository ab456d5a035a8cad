"""The mitm worker's keeper with real processes: first need, death, replacement, drain, and nothing lost meanwhile."""

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.mitm.config import CA_KEY_FILE, MitmConfig, TlsConfig
from sp_proxy.relay.handoff import HandOver, HandOverSender
from sp_proxy.supervisor import engine as engine_module
from sp_proxy.supervisor.engine import (
    FIRST_WORKER_ID,
    Engine,
    EngineError,
    EnginePlan,
    check_authority,
    resident_memory,
)
from sp_proxy.supervisor.generation import Attach
from sp_proxy.supervisor.guard_table import GuardTable
from tests.supervisor.fake_worker import GARBLE, guarded

FAKE = (sys.executable, str(Path(__file__).with_name("fake_mitm.py")))
CONFIG = MitmConfig(-1, -1, -1, HeaderConfig("test"), PolicyConfig(), grace_period=5.0)
QUICK = RestartPolicy(initial=0.01, maximum=0.02)
DESTINATION = ("192.0.2.1", 443)


@dataclass
class Running:
    engine: Engine
    sender: HandOverSender
    table: GuardTable
    attach: Attach
    channels: list[int] = field(default_factory=list)
    diverted: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)

    def hand_over(self, prefix: bytes = b"first") -> tuple[trio.SocketStream, str | None]:
        """A client, and why it was not handed over."""
        ours, theirs = socket.socketpair()
        with theirs:
            refusal = self.sender.send(theirs.fileno(), HandOver(Direction.INBOUND, ("a", 1), DESTINATION, prefix))
        return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), refusal

    async def served(self, prefix: bytes = b"first") -> tuple[trio.SocketStream, int]:
        """A client that is served, and the process id of who does."""
        stream, refusal = self.hand_over(prefix)
        assert refusal is None
        line = b""
        while not line.endswith(b"\n"):
            data = await stream.receive_some(1)
            assert data, "closed before it was served"
            line += data
        assert await read(stream, len(prefix)) == prefix
        return stream, int(line)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # another process decides
            await trio.sleep(0.01)


async def read(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := await stream.receive_some(size - len(data))):
        data += piece
    return data


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    table = GuardTable()
    seen: list[int] = []
    diverted: list[tuple[tuple[str, int], bytes]] = []

    async def consume(_exchanges: object) -> None:
        await trio.lowlevel.checkpoint()

    async def pass_through(client: socket.socket, destination: tuple[str, int], prefix: bytes) -> None:
        client.close()
        diverted.append((destination, prefix))
        await trio.lowlevel.checkpoint()

    with table, trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            def attach(sock: socket.socket, worker_id: int) -> WorkerChannel:
                seen.append(worker_id)
                channel = WorkerChannel(worker_id)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(receive, stream, channel, WorkerReports(), consume)
                return channel

            plan = EnginePlan(**{"config": CONFIG, "command": FAKE, "policy": QUICK, **options})
            engine = Engine(plan, table, attach, pass_through)
            sending, state = engine.descriptors
            sender = HandOverSender(os.dup(sending), os.dup(state))
            try:
                nursery.start_soon(engine.run)
                yield Running(engine, sender, table, attach, seen, diverted)
                nursery.cancel_scope.cancel()
            finally:
                sender.close()
    engine.close()


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


async def test_one_whose_channel_is_garbled_is_replaced_and_finishes_what_it_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "END_PATIENCE", 0.1)
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


async def test_while_it_cannot_serve_connections_pass_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    until = tmp_path / "until"
    until.touch()
    monkeypatch.setenv("FAKE_MITM", "dies")
    monkeypatch.setenv("FAKE_MITM_UNTIL", str(until))
    async with running() as daemon:
        stream, refusal = daemon.hand_over(b"on its way")
        assert refusal is None
        await daemon.until(lambda: bool(daemon.diverted))
        assert daemon.diverted == [(DESTINATION, b"on its way")]
        assert daemon.engine.diverted_total == 1
        await stream.aclose()
        stream, refusal = daemon.hand_over()
        await stream.aclose()
        assert refusal == "engine_down"
        until.unlink()
        await daemon.until(lambda: daemon.engine.state == "ready")
        stream, _ = await daemon.served()
        await stream.aclose()


async def test_one_that_never_gets_ready_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "START_PATIENCE", 0.3)
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


def test_resident_memory():
    assert resident_memory(os.getpid()) > 1 << 20
    assert resident_memory(2**22 + 1) == 0


def test_an_authority_is_needed_where_tls_is_intercepted(tmp_path: Path):
    check_authority(TlsConfig())
    directory = TlsConfig(intercept=(".",), ca_directory=str(tmp_path))
    with pytest.raises(ValueError, match=r"^tls.ca_directory: .* does not exist; .*sp-proxy ca init"):
        check_authority(directory)
    (tmp_path / CA_KEY_FILE).write_text("")
    check_authority(directory)
    with pytest.raises(ValueError, match=r"^tls.ca_file: .* does not exist; needed because of tls.intercept$"):
        check_authority(TlsConfig(intercept=(".",), ca_file=str(tmp_path / "none.pem")))
    with pytest.raises(ValueError, match="cannot be read"):
        check_authority(TlsConfig(intercept=(".",), ca_file=str(tmp_path)))


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
            patch.setattr(engine_module, "START_PATIENCE", 0.3)
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
