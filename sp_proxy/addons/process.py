"""A capture hook's process, seen from the exporter: fed with records, watched, ended, begun again.

Whatever it does costs its own effect: what it leaves unanswered goes on as it was, or is lost where the addon says
``required = True``. A process that dies, hangs, or says what nobody understands is ended with all of its group; it is begun
again after growing pauses (``core/restarts.py``), and a hook that fails call after call has such a pause too.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import batched
from typing import Final

import structlog
import trio
from msgspec import Struct

from sp_proxy.addons import wire
from sp_proxy.addons.source import AddonFile
from sp_proxy.addons.tally import AddonStats, Mask, Tally
from sp_proxy.addons.wire import Done, Fault, Loaded, Setup, Task
from sp_proxy.channel.frames import LENGTH
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.settings.keys import ENVIRONMENT_PREFIX

COMMAND: Final = (sys.executable, "-P", "-m", "sp_proxy.addons")
MAX_RECORDS: Final = 64
"""Of a task."""
MAX_CONTENT: Final = 4 << 20
"""Bytes of bodies in a task."""
MAX_ANSWER: Final = 16 << 20
"""Bytes of an answer, or twice the task's."""
MAX_ANSWERS: Final = 64 << 20
"""Bytes of all answers for a batch: a record may be split, but not without end."""
START_SECONDS: Final = 15.0
"""For an interpreter to start and the file to be run, on a busy machine."""
LATE: Final = 1.0
"""Seconds beyond its time after which a process is stuck: it keeps the time itself, if it can."""
REAP_SECONDS: Final = 2.0
MAX_FAILED: Final = 50
"""Calls in a row that fail before the hook gets a pause."""
MAX_LOGGED: Final = 100
"""Lines of an addon that are named in the log."""
POLICY: Final = RestartPolicy(initial=1.0, maximum=300.0)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CapturePlan(Struct, frozen=True):
    """All that decides what a hook does."""

    file: AddonFile
    call_budget: float
    batch_budget: float
    max_memory: int


class Outcome(Struct, frozen=True):
    """What a hook made of records."""

    made: list[list[wire.Changed] | None]
    """For each record: None for itself, else what goes on in its place."""
    missed: frozenset[int]
    """Records that the hook was not called with, or failed at."""


class LostError(Exception):
    """The process is of no use any more."""


class AddonProcess:
    """One hook. ``work`` starts the process when it is needed; ``close`` ends it."""

    def __init__(self, plan: CapturePlan, command: Sequence[str] = COMMAND) -> None:
        self.plan = plan
        self.name = plan.file.name
        self.tally = Tally(self.name)
        self._command = command
        self._one_at_a_time = trio.Lock()
        self._process: trio.Process | None = None
        self._stream: trio.SocketStream | None = None
        self._failures = 0
        """Processes in a row that were lost, and pauses for calls that failed."""
        self._failed_calls = 0
        self._not_before = float("-inf")
        self._answered = 0
        """Bytes for this batch."""
        self._retired = False
        self._logged: set[Fault] = set()
        self.says: Callable[[str], None] = lambda line: log.info("addon_says", addon=self.name, text=line)
        """Gets each line that the hook prints."""

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        return self._process.pid if self._process else None

    def stats(self) -> AddonStats:
        """A snapshot."""
        state = "paused" if trio.current_time() < self._not_before else "ready" if self._process else "waiting"
        return self.tally.stats(state)

    async def work(self, exchanges: Sequence[Exchange], mask: Mask = lambda _, value: value) -> Outcome:
        """Call the hook with each, within the time for a batch. Never raises for what the hook does. ``mask`` is for labels."""
        try:
            return await self._work(exchanges, mask)
        finally:
            if self._retired:
                self.close()

    @property
    def answered_bytes(self) -> int:
        """Of the batch that it works on, what it has answered so far."""
        return self._answered

    def retire(self) -> None:
        """Nobody asks for it any more: end the process, when it has done what it is at."""
        self._retired = True
        if not self._one_at_a_time.locked():
            self.close()

    async def _work(self, exchanges: Sequence[Exchange], mask: Mask) -> Outcome:
        made: list[list[wire.Changed] | None] = [None] * len(exchanges)
        missed: set[int] = set()
        async with self._one_at_a_time:
            first = 0
            until = float("inf")
            self._answered = 0
            for some in _tasks(exchanges):
                places = range(first, first + len(some))
                first += len(some)
                try:
                    if trio.current_time() < self._not_before or trio.current_time() >= until:
                        raise LostError
                    stream = self._stream or await self._start()
                    if until == float("inf"):
                        until = trio.current_time() + self.plan.batch_budget
                    done = await self._ask(stream, some, max(0.0, until - trio.current_time()))
                except LostError as error:
                    missed.update(places)
                    self.tally.skipped += len(some)
                    if error.args:
                        self._lose(str(error))
                    continue
                except BaseException:  # cancelled in the middle of an answer
                    self._answered = 0
                    self.close()
                    raise
                self._take(done, places, made, mask)
                missed.update(places[place] for place in (*done.failed, *done.skipped))
            self._answered = 0
        return Outcome(made, frozenset(missed))

    def close(self) -> None:
        """End the process now."""
        stream, self._stream = self._stream, None
        process, self._process = self._process, None
        if stream is not None:
            stream.socket.close()
        if process is not None:
            _kill(process)

    async def _start(self) -> trio.SocketStream:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise LostError(f"could not be started: {os.strerror(error.errno or 0).lower()}") from error
        plan = self.plan
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        try:
            with theirs:
                self._process = await trio.lowlevel.open_process(
                    [*self._command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    env=environment(),
                )
        except OSError as error:
            stream.socket.close()
            raise LostError(f"could not be started: {os.strerror(error.errno or 0).lower()}") from error
        self._stream = stream
        setup = Setup(self.name, plan.file.path, plan.file.text, plan.call_budget, plan.max_memory)
        answer = await self._exchange(stream, wire.frame(setup), START_SECONDS)
        if not isinstance(answer, Loaded):
            raise LostError("it says what nobody understands")
        if answer.fault is not None:
            self._tell(answer.fault)
            raise LostError(f"its file cannot be run: {answer.fault.kind} in line {answer.fault.line}")
        log.info("addon_started", addon=self.name, pid=self.pid)
        return stream

    async def _ask(self, stream: trio.SocketStream, exchanges: list[Exchange], seconds: float) -> Done:
        try:
            message = wire.frame(Task(exchanges, seconds))
        except ValueError as error:
            raise LostError from error
        # A call that is allowed just before the time is over takes its own.
        answer = await self._exchange(stream, message, seconds + self.plan.call_budget + LATE)
        if not isinstance(answer, Done) or not wire.is_sound(answer, len(exchanges)):
            raise LostError("it says what nobody understands")
        return answer

    async def _exchange(self, stream: trio.SocketStream, message: bytes, seconds: float) -> wire.Answer:
        try:
            with trio.move_on_after(seconds):
                await stream.send_all(message)
                size = wire.length(await _exactly(stream, LENGTH.size))
                self._answered += size
                if size > max(MAX_ANSWER, 2 * len(message)) or self._answered > MAX_ANSWERS:
                    raise LostError("it answers with too much")
                answer: wire.Answer = wire.decode_answer(await _exactly(stream, size))
                return answer
        except LostError:
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            raise LostError("it has ended, or closed its channel") from None
        except Exception:  # noqa: BLE001  # a foreign stream, whatever is wrong with it
            raise LostError("it says what nobody understands") from None
        raise LostError("it does not answer")

    def _take(self, done: Done, places: range, made: list[list[wire.Changed] | None], mask: Mask) -> None:
        for place in done.replaced:
            made[places[place]] = []
        for each in done.changed:
            there = made[places[each.of]]
            assert there is not None
            there.append(each)
        called = len(places) - len(done.skipped)
        self.tally.add(done, called, mask)
        for fault in done.faults:
            self._tell(fault)
        for line in done.said[: wire.MAX_SAID]:
            self.says(line[: wire.MAX_TEXT])
        if called and len(done.failed) >= called:
            self._failed_calls += called
            if self._failed_calls >= MAX_FAILED:
                self._failed_calls = 0
                self._pause(f"{MAX_FAILED} calls in a row failed")
        elif called:
            self._failed_calls = 0
            self._failures = 0

    def _lose(self, reason: str) -> None:
        process = self._process
        self.close()
        self.tally.restarts += 1
        self._pause(
            reason if process is None or process.returncode in {None, 0} else f"{reason} ({process.returncode})"
        )

    def _pause(self, reason: str) -> None:
        self._failures += 1
        # Not for secrets: jitter.
        seconds = POLICY.delay(self._failures, random.random())  # noqa: S311
        self._not_before = trio.current_time() + seconds
        self.tally.last_problem = reason
        log.error("addon_failed", addon=self.name, reason=reason, pause_seconds=round(seconds, 1))

    def _tell(self, fault: Fault) -> None:
        """Name the line, once."""
        if fault in self._logged or len(self._logged) >= MAX_LOGGED:
            return
        self._logged.add(fault)
        lines = self.plan.file.text.splitlines()
        code = lines[fault.line - 1].strip()[:200] if 0 < fault.line <= len(lines) else ""
        place = f"{self.plan.file.path}:{fault.line}"
        self.tally.last_problem = f"{fault.kind} at {place}"
        log.error("addon_fault", addon=self.name, kind=fault.kind, place=place, code=code)


def environment() -> dict[str, str]:
    """The daemon's, without its settings: there are secrets among these."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}


def _tasks(exchanges: Sequence[Exchange]) -> list[list[Exchange]]:
    """Few enough, and small enough, for a frame each."""
    tasks: list[list[Exchange]] = []
    for some in batched(exchanges, MAX_RECORDS):
        size = 0
        task: list[Exchange] = []
        for each in some:
            size += len(each.request_body) + len(each.response_body)
            if task and size > MAX_CONTENT:
                tasks.append(task)
                task, size = [], len(each.request_body) + len(each.response_body)
            task.append(each)
        tasks.append(task)
    return tasks


def _kill(process: trio.Process) -> None:
    """With all that it has started. It has not been waited for, so its number is nobody else's yet."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    trio.lowlevel.spawn_system_task(_reap, process)


async def _reap(process: trio.Process) -> None:
    # It is gone in a moment; one that cannot be ended is the kernel's to reap when we end.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_SECONDS):
        await process.wait()


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive_some(min(size - len(data), 1 << 18))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
