"""The processes under measurement: started, asked for their CPU time and memory, and ended by their own ids.

CPU time is the kernel's: the process's CPU clock (clock_getcpuclockid(3)), nanoseconds of all threads, ended ones
included. ``/proc/PID/stat`` counts the same in ticks of 10 ms, and ``/proc/PID/schedstat`` one thread only.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_SECONDS = 5.0
READY_SECONDS = 30.0
LAST_WORDS = 200
_CPUCLOCK_SCHED = 2
_PORTS = (18_000, 31_000)
"""Below the range that outgoing connections take (from 32,768): load would otherwise take a port before its server."""


class BenchmarkError(Exception):
    """Something could not be measured. The message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of some processes together. Shared pages are counted once for each in ``rss``, by their part in ``pss``."""

    rss: int
    pss: int


def free_port() -> int:
    """A loopback port on which nothing listens."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def cpu_seconds(pid: int) -> float:
    """CPU time of one process, user and system. Raises BenchmarkError when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError as error:
        raise BenchmarkError(f"process {pid} is gone") from error


def system_part(pid: int) -> Callable[[], float]:
    """Begin to watch; what is returned tells which part of its CPU time, from 0 to 1, the kernel took since then."""

    def ticks() -> tuple[int, int]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]), int(
            fields[12]
        )  # proc(5): utime is the 14th field, the second ends with the parenthesis

    user, system = ticks()

    def read() -> float:
        user_now, system_now = ticks()
        spent = user_now - user + system_now - system
        return (system_now - system) / spent if spent else 0.0

    return read


def tree(pid: int) -> list[int]:
    """This process and all its descendants; empty when it is gone."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            found.append(each)
    return found


def memory(pids: Iterable[int]) -> Memory:
    """What these processes have in memory (proc(5), smaps_rollup)."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
    return Memory(rss, pss)


class Running:
    """One started program. Its output goes to a file, which is read when it fails.

    It gets SIGTERM when we end for whatever reason (setpriv --pdeathsig): nothing is left behind.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        # Paths of tools that are the system's, not a user's, for whoever runs this as such a one.
        variables = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **(environ or {})}
        with self._log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=directory,
                    env=variables,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise BenchmarkError("needs setpriv: apt-get install util-linux") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """It and its descendants."""
        return tree(self.pid)

    def wait_for(self, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Look until it is ready. Raises BenchmarkError, with the last line of its output, when that does not happen."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise BenchmarkError(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{self.name} was not ready after {seconds:g} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The end of the last line of its output: there a traceback in a JSON log has its cause."""
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][-LAST_WORDS:] if lines else "it said nothing"

    def stop(self) -> None:
        """SIGTERM; SIGKILL for it and its descendants if that is not enough."""
        pids = self.pids()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
