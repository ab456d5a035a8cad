"""A fault in the exporter must not reach a worker."""

import socket

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.channel.frames import Drained, Ready, Records, frame
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.settings.model import SettingsModel, Spool
from sp_proxy.supervisor.capture import Capture
from tests.exporter.rig import make_exchanges

SETTINGS = SettingsModel(sp_backend_url="http://127.0.0.1:9", spool=Spool(mode="off"))


async def until_stopped(capture: Capture) -> None:
    """An exporter ends in threads too, which trio's own test helpers do not wait for."""
    while capture.running:  # noqa: ASYNC110  # nothing tells of it
        await trio.sleep(0.01)


class Failing(Exporter):
    """Starts, then fails when told."""

    def __init__(self, settings: SettingsModel) -> None:
        super().__init__(settings)
        self.fail = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(super().run)
            task_status.started()
            await self.fail.wait()
            raise RuntimeError("a fault of ours")


class Stillborn(Exporter):
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise OSError("cannot start")


async def test_a_channel_is_the_exporters_while_it_runs():
    capture = Capture(Exporter(SETTINGS))
    ours, theirs = socket.socketpair()
    with trio.fail_after(5), theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(capture.run)
            assert capture.running
            channel = capture.attach(ours, 3)
            theirs.sendall(frame(Ready(3)) + frame(Drained()))
            await channel.ready.wait()
            assert [worker.worker_id for worker in capture.exporter.stats().workers] == [3]
            theirs.close()
            await capture.drain(trio.current_time() + 1)
            await until_stopped(capture)
            nursery.cancel_scope.cancel()


async def test_after_a_fault_workers_are_still_heard_and_what_comes_is_counted_as_lost():
    exporter = Failing(SETTINGS)
    capture = Capture(exporter)
    ours, theirs = socket.socketpair()
    with capture_logs() as logs, trio.fail_after(5), theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(capture.run)
            exporter.fail.set()
            await until_stopped(capture)
            channel = capture.attach(ours, 0)
            theirs.sendall(frame(Ready(0)) + frame(Records([])) + frame(Drained()))
            await channel.drained.wait()
            assert channel.ready.is_set()
            await capture.drain(trio.current_time() + 1)
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["exporter_failed"]
    assert logs[0]["log_level"] == "error"


async def test_an_exporter_that_cannot_start_is_not_hidden():
    capture = Capture(Stillborn(SETTINGS))
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(capture.run)


async def test_what_came_after_the_exporter_had_failed_is_in_the_numbers():
    exporter = Failing(SETTINGS)
    capture = Capture(exporter)
    assert capture.stats() == exporter.stats()
    ours, theirs = socket.socketpair()
    with trio.fail_after(5), theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(capture.run)
            exporter.fail.set()
            await until_stopped(capture)
            channel = capture.attach(ours, 0)
            theirs.sendall(frame(Records(make_exchanges(3))) + frame(Drained()))
            await channel.drained.wait()
            assert capture.stats().channel_dropped == {"exporter_failed": 3}
            nursery.cancel_scope.cancel()
