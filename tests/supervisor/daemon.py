"""The whole daemon as a process, for tests: started, watched by its log, always ended.

As a program (``python daemon.py [FILE]``) it is the daemon with fake relay workers, which do what FAKE_WORKER says;
with HANGS set it hangs at its end.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from sp_proxy import logs
from sp_proxy.settings.source import Source
from sp_proxy.supervisor import run as supervisor
from sp_proxy.supervisor.capture import Capture

HERE = Path(__file__)
TIMEOUT = 40.0
"""Seconds for anything that a test waits for."""
REAL = (sys.executable, "-m", "sp_proxy.cli.main", "run", "--config")
WITH_FAKE_WORKERS = (sys.executable, str(HERE))


def free_ports(count: int) -> list[int]:
    """Ports that are free on all addresses just now; settings do not know port 0."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("0.0.0.0", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Daemon:
    """A running daemon."""

    def __init__(self, process: trio.Process, port: int, admin: str) -> None:
        self.process = process
        self.port = port
        """Of its forwarding listener."""
        self.admin = admin
        """URL of its admin server."""
        self.log: list[dict[str, Any]] = []
        self._grown = trio.Event()
        self._ended = False

    async def watch(self) -> None:
        """Read its log to the end."""
        assert self.process.stderr is not None
        rest = b""
        async for data in self.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"event": "text", "text": line.decode()})
            self._grown.set()
            self._grown = trio.Event()
        self._ended = True
        self._grown.set()

    async def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the log line of this event, or for the n-th."""
        with trio.move_on_after(TIMEOUT):
            while len(found := [line for line in self.log if line["event"] == event]) < count:
                assert not self._ended, f"{event} was not logged: {self.log}"
                await self._grown.wait()
            return found[count - 1]
        raise AssertionError(f"{event} was not logged: {self.log}")

    async def get(self, path: str) -> httpx.Response:
        """Ask the admin server."""
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            return await client.get(self.admin + path)

    async def metric(self, name: str) -> float:
        """One sample."""
        for line in (await self.get("/metrics")).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no sample {name}")

    async def metric_becomes(self, name: str, accept: Callable[[float], bool]) -> None:
        """Scrape until the sample is as wanted."""
        with trio.fail_after(TIMEOUT):
            while not accept(await self.metric(name)):  # noqa: ASYNC110  # another process counts
                await trio.sleep(0.02)

    async def connect(self) -> trio.SocketStream:
        """A connection through it."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    async def ended(self) -> int:
        """Its exit code."""
        with trio.fail_after(TIMEOUT):
            return await self.process.wait()


@asynccontextmanager
async def running_daemon(
    upstream: str,
    settings: Mapping[str, Any] | None = None,
    *,
    directory: Path,
    command: tuple[str, ...] = WITH_FAKE_WORKERS,
    environ: Mapping[str, str] | None = None,
    until: str = "ready",
    pass_fds: tuple[int, ...] = (),
) -> AsyncIterator[Daemon]:
    """A daemon with one forwarding listener, once it has logged ``until``; killed at the end if it still runs."""
    port, admin = free_ports(2)
    config = directory / "config.json"
    config.write_text(
        json.dumps(
            {
                "sp_backend_url": "http://127.0.0.1:9",
                "listen": {
                    "inbound": "off",
                    "outbound": "off",
                    "forward": [{"listen": f"127.0.0.1:{port}", "upstream": upstream}],
                },
                "admin": {"listen": f"127.0.0.1:{admin}"},
                "shutdown": {"grace_period": "20s", "flush_timeout": "1s"},
                **(settings or {}),
            }
        )
    )
    process = await trio.lowlevel.open_process(
        [*command, str(config)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        pass_fds=pass_fds,
    )
    daemon = Daemon(process, port, f"http://127.0.0.1:{admin}")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.watch)
            await daemon.logged(until)
            yield daemon
            nursery.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def hang(_self: object, _deadline: float) -> None:
    """As a disk that does not answer would have it, or a fault of ours: the loop turns no more."""
    time.sleep(600)  # noqa: ASYNC251


def main() -> int:
    logs.configure("debug", "json")
    if "HANGS" in os.environ:
        supervisor.EXIT_MARGIN = 0.1
        Capture.drain = hang  # type: ignore[method-assign, assignment]
    fake = (sys.executable, str(HERE.with_name("fake_worker.py")))
    source = Source(Path(sys.argv[1]) if sys.argv[1:] else None, os.environ, {})
    return supervisor.run(source.load(), source, os.environ, fake)


if __name__ == "__main__":
    sys.exit(main())
