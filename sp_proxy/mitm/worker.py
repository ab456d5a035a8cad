"""A mitm worker: one process, one uvloop, mitmproxy's core with our addons, and one channel to the exporter.

Life: adopt what the relay hands over → say ``Ready``. SIGUSR1: retire, take
nothing new, and end with the last connection, whenever that is (its successor runs already). SIGTERM: the same within the
grace period, idle connections closed first; a second one: at once. The supervisor gone: the same as SIGTERM.
"""

import asyncio
import contextlib
import gc
import logging
import random
import resource
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvloop
from mitmproxy.master import Master

from sp_proxy.addons.heads import RequestHooks
from sp_proxy.channel.frames import Drained, Ready, Totals
from sp_proxy.channel.sender import Sender
from sp_proxy.core.admission import Admission
from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import Injector
from sp_proxy.core.rules import Policy
from sp_proxy.inject.config import InjectConfig
from sp_proxy.mitm import http1
from sp_proxy.mitm.ca import load
from sp_proxy.mitm.capture import Capture
from sp_proxy.mitm.config import MitmConfig
from sp_proxy.mitm.connection import Handler, adopt, reset
from sp_proxy.mitm.hooks import Hooks
from sp_proxy.mitm.layers import NextLayer
from sp_proxy.mitm.live import Connections, Live
from sp_proxy.mitm.options import ProxyOptions, proxy_options
from sp_proxy.mitm.scripts import BODIES, HEADS, Scripts
from sp_proxy.mitm.servers import OwnServers
from sp_proxy.mitm.tls import Certificates, TlsPolicy
from sp_proxy.patterns import compile_pattern
from sp_proxy.relay.handoff import HandOver, HandOverEndedError, receive
from sp_proxy.relay.long_exchanges import record_long
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.relay.worker import TOTALS_INTERVAL
from sp_proxy.taps.context import TapContext
from sp_proxy.taps.labels import Labels

BACKLOG = 4096
DRAIN_IDLE = 0.5
"""Seconds that a connection must be idle before a drain closes it, as in the relay."""
MAX_TAKEN_AT_ONCE = 64
"""Connections adopted in one turn of the loop: those that are open must have theirs."""
_DRAIN_LOOK_INTERVAL = 0.05

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class MitmWorker:
    """What all connections of the process share. Raises CaError, ValueError for a configuration that cannot be used."""

    def __init__(self, config: MitmConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.counters: defaultdict[str, int] = defaultdict(int)
        channel = socket.socket(fileno=config.channel_fd)
        channel.setblocking(False)
        self.sender = Sender(loop, channel, self.counters)
        self._handover = socket.socket(fileno=config.handover_fd)
        self._handover.setblocking(False)
        self._handlers: dict[str, Handler] = {}
        self._connections = Connections()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._retire = asyncio.Event()
        policy, injector = Policy(config.policy, compile_pattern), Injector(config.headers)
        admission = Admission.make(config.admission)
        self._labels = Labels()
        self._request_hooks = (
            RequestHooks(config.request_addons, config.request_budget, self.counters, interrupt=config.stuck_after)
            if config.request_addons
            else None
        )
        self._contexts = {each: self._context(each, policy, injector, admission) for each in Direction}
        http1.install()
        store = load(config.tls) if config.tls.intercept else None
        master = Master(proxy_options(config.tls.trusted_file), event_loop=loop)
        # Its bridge from logging to its old log events costs at every line, and nobody listens.
        master._legacy_log_events.uninstall()  # noqa: SLF001
        certificates = Certificates(store)
        master.addons.add(ProxyOptions(), certificates)  # type: ignore[no-untyped-call]
        self._options = master.options
        self._hooks = Hooks(self.counters)
        self._hooks.add(TlsPolicy(config.tls, self._connections, self.counters))
        self._hooks.add(certificates, ("tls_start_client", "tls_start_server"))
        self._guard = LoopGuard(config.loop_guard_fd, config.loop_guard_owner)
        self._hooks.add(OwnServers(self._guard))
        self._hooks.add(NextLayer(self._connections, config))
        self._scripts = self._make_scripts(master)
        if self._scripts is not None:
            self._hooks.add(self._scripts, BODIES)
        messages = -1 if master.options.websocket else config.websocket_messages
        self._hooks.add(Capture(self._connections, messages))
        if self._scripts is not None:
            self._hooks.add(self._scripts, HEADS)
        if config.inject:
            self._look_answers_up(config.inject)

    def _look_answers_up(self, config: InjectConfig) -> None:
        from sp_proxy.mitm.inject import Inject  # noqa: PLC0415 (protobuf and an HTTP client, for those who want it)

        def count(outcome: str) -> None:
            self.counters[f"inject:{outcome}"] += 1

        try:
            inject = Inject(config, self._connections, count)
        except (OSError, ValueError) as error:  # certificate authorities, patterns: the traffic goes on without answers
            log.error("inject_impossible", reason=str(error))  # noqa: TRY400
            return
        if self._scripts is None:
            # What has no length that can be known is held no further than this; scripts have a limit of their own.
            self._options.update(stream_large_bodies=str(config.max_body))  # type: ignore[no-untyped-call]
        self._hooks.add(inject, ("requestheaders", "request", "error"))
        log.warning("inject_for_tests_only", asked=urlsplit(config.url).hostname)

    def _make_scripts(self, master: Master) -> Scripts | None:
        config = self.config
        if not config.scripts:
            return None
        return Scripts(config.scripts, config.stuck_after, master, self._connections, self.counters)

    def _context(
        self, direction: Direction, policy: Policy, injector: Injector, admission: Admission | None
    ) -> TapContext:
        return TapContext(
            direction=direction,
            policy=policy,
            injector=injector,
            sink=self.sender.record,
            counters=self.counters,
            unix_ns=time.time_ns,
            random_bits=random.getrandbits,
            strict=self.config.strict == "reject",
            max_body_size=self.config.max_body_size,
            max_head_size=self.config.max_head_size,
            admission=admission,
            labels=self._labels,
            hooks=self._request_hooks,
        )

    async def run(self) -> None:
        """Serve until asked to stop or to retire, then drain."""
        loop = self.loop
        loop.set_task_factory(_eager)
        loop.add_signal_handler(signal.SIGTERM, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGINT, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._retire.set)
        self.sender.on_closed_by_receiver(self._stop.set)
        loop.add_reader(self._handover.fileno(), self._take)
        gc.collect()
        gc.freeze()
        if self._scripts is not None:
            await self._scripts.running()
        self.sender.message(Ready(self.config.worker_id))
        background = [loop.create_task(self._report())]
        if self.config.partial_after:
            background.append(
                loop.create_task(record_long(self.config.partial_after, self._connections.values, self.counters))
            )
        await self._asked_to_end()
        loop.remove_reader(self._handover.fileno())
        self._handover.close()
        await self._drain()
        if self._scripts is not None:
            await self._scripts.done()
        for task in background:
            task.cancel()
        self._send_totals()
        self.sender.message(Drained())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.sender.drained(), 1.0)
        self.sender.close()

    async def _asked_to_end(self) -> None:
        waiting = [self.loop.create_task(event.wait()) for event in (self._stop, self._retire)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    def own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it as a task which this worker owns."""
        task = self.loop.create_task(coroutine)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # ---- connections

    def _take(self) -> None:
        """Adopt what the relay has handed over."""
        for _ in range(MAX_TAKEN_AT_ONCE):
            try:
                taken = receive(self._handover)
            except (BlockingIOError, InterruptedError):
                return
            except HandOverEndedError:
                self.loop.remove_reader(self._handover.fileno())
                return
            except OSError as error:
                self.counters["handover_failed"] += 1
                log.error("handover_failed", reason=str(error))  # noqa: TRY400  # descriptors have run out
                return
            if taken is None:
                self.counters["handover_failed"] += 1
                continue
            self.own(self._adopt(*taken))

    async def _adopt(self, sock: socket.socket, message: HandOver) -> None:
        self.counters["connections"] += 1
        if self._guard.is_ours(message.client, message.destination if message.redirected else sock.getsockname()[:2]):
            # The relay looks too, but may do so before our hook knows of the connection (``servers``). This is later.
            self.counters["refused:loop"] += 1
            reset(sock)
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        destination = message.destination if message.destination[0] else None
        try:
            handler = await adopt(sock, message.prefix, self._options, self._hooks, destination)
        except OSError:
            self.counters["refused:already_reset"] += 1
            sock.close()
            return
        live = Live(self._contexts[message.direction], message.client, destination)
        await self._serve(handler, live)

    async def _serve(self, handler: Handler, live: Live) -> None:
        client_id = handler.client.id
        self._connections[client_id] = live
        self._handlers[client_id] = handler
        try:
            await handler.handle_client()
        except Exception:
            self.counters["connection_faults"] += 1
            log.exception("connection_failed")
        finally:
            del self._handlers[client_id]
            if self._connections.pop(client_id, None) is not None:
                live.close("client_aborted")

    # ---- ending

    async def _drain(self) -> None:
        deadline = float("inf")
        while self._handlers and not self._stop_now.is_set():
            if self._stop.is_set():
                now = self.loop.time()
                deadline = min(deadline, now + self.config.grace_period)
                if now >= deadline:
                    break
                self._close_idle()
            await asyncio.sleep(_DRAIN_LOOK_INTERVAL)
        for handler in list(self._handlers.values()):
            self.counters["aborted_at_shutdown"] += 1
            handler.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _close_idle(self) -> None:
        now = time.monotonic()
        for client_id, handler in list(self._handlers.items()):
            live = self._connections.get(client_id)
            if live is None or not live.idle:
                if live is not None:
                    live.touched = now
            elif now - live.touched >= DRAIN_IDLE:
                handler.close()

    # ---- reports

    async def _report(self) -> None:
        while True:
            self._send_totals()
            await asyncio.sleep(TOTALS_INTERVAL)

    def _send_totals(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  # as the relay does
            resident = int(statm.read().split()[1]) * resource.getpagesize()
        self.sender.message(
            Totals(
                dict(self.counters),
                {
                    "connections_open": len(self._handlers),
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "resident_memory_bytes": resident,
                },
            )
        )


def _eager(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Tasks run at once up to their first wait: mitmproxy starts one for each hook.

    Not ``asyncio.eager_task_factory``: uvloop passes an ``eager_start`` of its own, which that of CPython 3.13.0 refuses.
    """
    options.pop("eager_start", None)
    return asyncio.Task(coroutine, loop=loop, eager_start=True, **options)


def main(config: MitmConfig) -> int:
    """Run a worker in this process; its exit code. Raises CaError, ValueError."""
    logging.getLogger("mitmproxy").setLevel(logging.ERROR)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # means something to the supervisor only

    async def run() -> None:
        await MitmWorker(config, asyncio.get_running_loop()).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0
