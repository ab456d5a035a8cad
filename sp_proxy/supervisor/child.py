"""A child process that is kept running beside the workers (the embedded backend): restarted with backoff, stopped last.

It is a convenience of the daemon's, so its failures are logged and never end anything else.
"""

import os
import random
import signal
import subprocess
from collections.abc import Sequence

import structlog
import trio

from sp_proxy.core.restarts import RestartPolicy, Restarts

STOP_SECONDS = 5.0
"""Time between SIGTERM and SIGKILL."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def describe_end(status: int) -> str:
    """How a process ended, from the status that Python reports: negative for a signal."""
    return f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


class Child:
    """One process under a name. ``run`` keeps it; ``stop`` ends both. Descriptors that it inherits stay the caller's."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        pass_fds: Sequence[int] = (),
        policy: RestartPolicy | None = None,
    ) -> None:
        self._name = name
        self._command = list(command)
        self._pass_fds = tuple(pass_fds)
        self._policy = policy or RestartPolicy()
        self._stopping = trio.Event()
        self._stopped = trio.Event()
        self.pid: int | None = None

    async def run(self) -> None:
        """Keep it running until ``stop``. Cancelled: kills it."""
        restarts = Restarts(1, self._policy, trio.current_time())
        try:
            while not self._stopping.is_set():
                restarts.started(0, trio.current_time())
                ended = await self._live()
                if self._stopping.is_set():
                    return
                delay = restarts.exited(0, trio.current_time(), random.random())  # noqa: S311 - jitter
                log.error("child_died", child=self._name, ended=ended, restart_in_seconds=round(delay, 3))
                with trio.move_on_after(delay):
                    await self._stopping.wait()
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Ask it to end and wait until it has; kill it when that takes too long."""
        self._stopping.set()
        await self._stopped.wait()

    async def _live(self) -> str:
        try:
            process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=self._pass_fds, start_new_session=True
            )
        except OSError as error:
            return f"could not be started: {os.strerror(error.errno or 0).lower()}"
        self.pid = process.pid
        log.info("child_started", child=self._name, pid=process.pid)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._terminate_when_stopping, process)
                status = await process.wait()
                nursery.cancel_scope.cancel()
            return describe_end(status)
        finally:
            self.pid = None
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()

    async def _terminate_when_stopping(self, process: trio.Process) -> None:
        await self._stopping.wait()
        process.terminate()
        await trio.sleep(STOP_SECONDS)
        process.kill()
