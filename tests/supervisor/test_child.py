"""A child process beside the workers."""

import os
import signal
import sys
from collections.abc import Sequence

import trio
from structlog.testing import capture_logs

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.supervisor.child import Child

QUICK = RestartPolicy(initial=0.01, maximum=0.02)


def child(code: str, pass_fds: Sequence[int] = ()) -> Child:
    return Child("backend", (sys.executable, "-c", code), pass_fds, QUICK)


async def wait_for(logs: Sequence[object], count: int) -> None:
    with trio.fail_after(20):
        while len(logs) < count:  # noqa: ASYNC110  # the log is the only thing to watch
            await trio.sleep(0.01)


async def test_it_is_started_again_until_it_is_stopped():
    with capture_logs() as logs:
        kept = child("import time; time.sleep(600)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.run)
            await wait_for(logs, 1)
            first = kept.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await wait_for(logs, 3)
            assert kept.pid not in {None, first}
            with trio.fail_after(5):
                await kept.stop()
            assert kept.pid is None
    assert [line["event"] for line in logs] == ["child_started", "child_died", "child_started"]
    assert logs[1]["ended"] == "killed by SIGKILL"


async def test_one_that_does_not_listen_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr("sp_proxy.supervisor.child.STOP_SECONDS", 0.05)
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); time.sleep(600)"
    kept = child(code)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.run)
            while not ready.exists():  # noqa: ASYNC110  # another process makes it
                await trio.sleep(0.01)
            await kept.stop()
    assert kept.pid is None


async def test_a_program_that_is_not_there_is_retried():
    with capture_logs() as logs:
        kept = Child("backend", ["no-such-program-of-sp-proxy"], policy=QUICK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.run)
            await wait_for(logs, 2)
            await kept.stop()
    assert {line["ended"] for line in logs} == {"could not be started: no such file or directory"}


async def test_cancelling_kills_it():
    kept = child("import time; time.sleep(600)")
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.run)
            await wait_for(logs, 1)
            nursery.cancel_scope.cancel()
    assert kept.pid is None


async def test_it_gets_the_descriptors_that_are_passed_on():
    reading, writing = os.pipe()
    try:
        with capture_logs() as logs:
            kept = child(f"import os; os.write({writing}, b'here'); import time; time.sleep(600)", [writing])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kept.run)
                with trio.fail_after(20):
                    assert await trio.to_thread.run_sync(os.read, reading, 4) == b"here"
                await kept.stop()
        assert [line["event"] for line in logs] == ["child_started"]
    finally:
        os.close(reading)
        os.close(writing)
