"""A relay worker: one process, one uvloop, the listening sockets it inherited, and one channel to the exporter.

Life: accept → say ``Ready``. SIGUSR1: retire, for another generation of workers accepts on the same sockets: accept no
more, tell clients so where that disturbs nothing, end with the last connection, whenever that is. SIGTERM: accept no
more, tell clients so, close what stays idle, let the rest finish within the grace period, abort what is then left, say
``Drained``, exit 0. A second SIGTERM, or SIGINT twice: at once. The supervisor's end of the channel closing means that
it is gone: the same as SIGTERM, so that its successor can bind the ports.
"""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import mmap
import os
import random
import resource
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Coroutine
from functools import partial
from typing import Any

import uvloop

from sp_proxy.addons.heads import STATE_BYTES, RequestHooks
from sp_proxy.channel.frames import Drained, Ready, Retired, Totals
from sp_proxy.channel.sender import Sender
from sp_proxy.core.admission import Admission
from sp_proxy.core.inject import Injector
from sp_proxy.core.rules import Policy
from sp_proxy.patterns import compile_pattern
from sp_proxy.relay.config import ListenerConfig, WorkerConfig
from sp_proxy.relay.connection import Connection
from sp_proxy.relay.detect import Detection
from sp_proxy.relay.explicit_proxy import ProxiedConnection
from sp_proxy.relay.heartbeat import Heartbeat
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.long_exchanges import record_long
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.relay.poller import READABLE, Poller
from sp_proxy.taps.context import TapContext
from sp_proxy.taps.labels import Labels

log = logging.getLogger(__name__)

TOTALS_INTERVAL = 1.0
"""Seconds between two reports of the running totals."""
ACCEPTED_AT_ONCE = 8
SPARE_DESCRIPTORS = 64
"""Kept for all that is no end of a connection."""
ACCEPT_PAUSE = 0.2
"""Seconds."""
DRAIN_IDLE = 0.5
"""Seconds that a connection must be idle before a drain closes it: a request that is on its way must not meet a reset."""
WITHDRAWAL_LINGER = 0.1
"""Seconds to accept what had been redirected when the heartbeat was withdrawn."""
GC_THRESHOLD = (5000, 20, 20)
"""Connections are cycles, exchanges are not: collecting less often than by default (700) costs memory for some hundred
closed connections, and saves 1.5 % of the time under connection churn.
"""
_DRAIN_LOOK_INTERVAL = 0.05
_RETIRED_LOOK_INTERVAL = 0.5


class Worker:
    """What all connections of the process share."""

    def __init__(self, config: WorkerConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.connections: set[Connection] = set()
        self.poller = Poller(loop)
        self.loop_guard = LoopGuard(config.loop_guard_fd, config.loop_guard_owner)
        self.detection = Detection(config)
        channel = socket.socket(fileno=config.channel_fd)
        channel.setblocking(False)
        self.sender = Sender(loop, channel, self.counters)
        self._heartbeat = Heartbeat(loop, config.heartbeat_port, config.heartbeat_interval)
        self._tasks: set[asyncio.Task[None]] = set()
        self._drain_deadline = 0.0
        self._accept_failed = False
        self._max_connections = max_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._told = asyncio.Event()
        """To stop or to retire."""
        policy = Policy(config.policy, compile_pattern)
        injector = Injector(config.headers)
        self._admission = Admission.make(config.admission)
        self._labels = Labels()
        self._hooks = self._request_hooks()
        self._listeners = [self._listener(each, policy, injector) for each in config.listeners]

    def _listener(self, config: ListenerConfig, policy: Policy, injector: Injector) -> Listener:
        context = TapContext(
            direction=config.direction,
            policy=policy,
            injector=injector,
            sink=self.sender.record,
            counters=self.counters,
            unix_ns=time.time_ns,
            random_bits=random.getrandbits,
            strict=self.config.strict == "reject",
            max_body_size=self.config.max_body_size,
            max_head_size=self.config.max_head_size,
            admission=self._admission,
            labels=self._labels,
            hooks=self._hooks,
        )
        listening = socket.socket(fileno=config.fd)
        listening.setblocking(False)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # on Linux, connections inherit it
        upstream = (config.upstream_host, config.upstream_port) if config.upstream_host else None
        resolve = upstream is not None
        if upstream is not None:
            with contextlib.suppress(ValueError):
                ipaddress.ip_address(upstream[0])
                resolve = False
        return Listener(listening, context, upstream, resolve, config.proxy)

    def _request_hooks(self) -> RequestHooks | None:
        config = self.config
        if not config.request_addons:
            return None
        state = None
        if config.addon_state_fd >= 0:
            state = memoryview(mmap.mmap(config.addon_state_fd, STATE_BYTES)).cast("Q")
        hooks = RequestHooks(config.request_addons, config.request_budget, self.counters, state)
        signal.signal(signal.SIGALRM, hooks.interrupt)  # not the loop's: it would hear of it when the call is over
        return hooks

    def own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it as a task which this worker owns."""
        # eagerly: most of what there is to do is done before the first wait
        task = asyncio.Task(coroutine, loop=self.loop, eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Serve until asked to stop or to retire, then drain."""
        loop = self.loop
        loop.add_signal_handler(signal.SIGTERM, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGINT, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._told.set)
        self.sender.on_closed_by_receiver(self._stop_soon)
        for listener in self._listeners:
            self._listen(listener)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        self._send_totals()  # before it is ready: who has never reported is not missed when it reports no more
        self.sender.message(Ready(self.config.worker_id))
        background = [loop.create_task(self._report())]
        if self.config.partial_after:
            background.append(
                loop.create_task(record_long(self.config.partial_after, lambda: self.connections, self.counters))
            )
        self._heartbeat.start()
        await self._told.wait()
        if not self._stop.is_set():
            self._heartbeat.stop()  # not withdrawn: connections go to those who have taken over
        elif self._heartbeat.withdraw():
            await asyncio.sleep(WITHDRAWAL_LINGER)
        for listener in self._listeners:
            # The supervisor has it open too: closed only, it would be told of for ever.
            self.poller.unregister(listener.listening.fileno())
            self.poller.close(listener.listening)
        self.sender.message(Retired())
        await self._wait_for_connections()
        await self._drain()
        for task in background:
            task.cancel()
        self._send_totals()
        self.sender.message(Drained())
        try:
            await asyncio.wait_for(self.sender.drained(), max(1.0, self._drain_deadline - self.loop.time()))
        except TimeoutError:
            log.error("the exporter did not take the last records in time: they are lost")  # noqa: TRY400
        self.sender.close()

    def _listen(self, listener: Listener) -> None:
        """Take connections, until the worker stops."""
        if listener.listening.fileno() >= 0:
            self.poller.register(listener.listening.fileno(), READABLE, partial(self._accept, listener))

    def _accept(self, listener: Listener, _: int) -> None:
        """Some connections wait: take a few, and leave the others to the next turn or to another worker."""
        self.poller.end_turn()  # else who is awake would take all of them
        for _ in range(ACCEPTED_AT_ONCE):
            if len(self.connections) >= self._max_connections:
                self._pause_accepting(listener, "too many connections for the limit of open files")
                return
            try:
                sock, address = listener.listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or no memory left: the connections wait in the kernel, and are asked for again later.
                self._pause_accepting(listener, error.strerror or "")
                return
            sock.setblocking(False)
            self.counters["connections"] += 1
            connection = ProxiedConnection(self, listener) if listener.proxy else Connection(self, listener)
            try:
                connection.accept(sock, address[:2])
            except Exception as error:  # noqa: BLE001 (a fault of ours costs this connection, not those that wait)
                connection.failed(error)

    def _pause_accepting(self, listener: Listener, reason: str) -> None:
        self.counters["accept_failed"] += 1
        if not self._accept_failed:
            self._accept_failed = True
            log.error("connections cannot be accepted for now: %s", reason)
        self.poller.unregister(listener.listening.fileno())
        self.loop.call_later(ACCEPT_PAUSE, self._listen, listener)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop_soon()

    def _stop_soon(self) -> None:
        self._stop.set()
        self._told.set()

    async def _wait_for_connections(self) -> None:
        """Until all have ended by themselves, or a stop is asked for. None that is idle is closed: its client may be about to
        use it.
        """
        while self.connections and not self._stop.is_set():
            # Again and again: of some it is not known yet what they speak.
            for connection in list(self.connections):
                connection.drain(patient=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _RETIRED_LOOK_INTERVAL)

    async def _drain(self) -> None:
        loop = self.loop
        deadline = self._drain_deadline = loop.time() + self.config.grace_period
        patience_ends = loop.time() + self.config.grace_period / 2
        patient = True
        for connection in list(self.connections):
            connection.drain(patient=True)
        idle_since: dict[Connection, float] = {}
        while self.connections and loop.time() < deadline and not self._stop_now.is_set():
            for connection in list(self.connections):
                if not connection.idle:
                    idle_since.pop(connection, None)
                elif loop.time() - idle_since.setdefault(connection, loop.time()) >= DRAIN_IDLE:
                    connection.close()
            if patient and loop.time() > patience_ends:
                patient = False
                for connection in list(self.connections):
                    connection.drain(patient=False)
            await asyncio.sleep(_DRAIN_LOOK_INTERVAL)
        for connection in list(self.connections):
            self.counters["aborted_at_shutdown"] += 1
            connection.abort()
        await asyncio.sleep(0)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(TOTALS_INTERVAL)
            self._send_totals()

    def _resident_memory(self) -> int:
        """Bytes in memory now (proc(5), statm). ``ru_maxrss`` would tell of the process that started us.

        The file stays open, for a report must not fail when there are no descriptors left.
        """
        return int(os.pread(self._statm, 128, 0).split()[1]) * resource.getpagesize()

    def _send_totals(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.sender.message(
            Totals(
                dict(self.counters),
                {
                    "connections_open": len(self.connections),
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "resident_memory_bytes": self._resident_memory(),
                },
            )
        )


def max_connections(descriptors: int) -> int:
    """How many a worker takes that may have so many descriptors open: each has two ends. One that is accepted without a
    descriptor left for its other end could only be reset.
    """
    return sys.maxsize if descriptors == resource.RLIM_INFINITY else max(1, (descriptors - SPARE_DESCRIPTORS) // 2)


def main(config: WorkerConfig) -> int:
    """Run a worker in this process; its exit code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # means something to the supervisor only

    async def run() -> None:
        await Worker(config, asyncio.get_running_loop()).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0
